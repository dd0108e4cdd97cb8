package gitops

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
)

// MovedOnError means that somebody has changed the path after the release: what
// is there now is not what was deployed, so taking it back would take back more.
type MovedOnError struct {
	Where  string // "branch main" or "tag v1.2.4"
	Path   string
	Commit string // the newest that changed the path, as far as the history can be seen
	Bad    string
}

func (e *MovedOnError) Error() string {
	return fmt.Sprintf("%s has moved on: commit %.12s changed %s after %.12s", e.Where, e.Commit, wording(e.Path), e.Bad)
}

// Hint says what to do instead.
func (e *MovedOnError) Hint() string {
	return fmt.Sprintf("look at git log %.12s..%.12s -- %s and revert by hand what is still bad", e.Bad, e.Commit, wording(e.Path))
}

func wording(path string) string {
	if path == "" {
		return "."
	}
	return path
}

// FirstReleaseError means that there is nothing to go back to.
type FirstReleaseError struct{ Path, Good string }

func (e *FirstReleaseError) Error() string {
	return fmt.Sprintf("path %s does not exist in commit %.12s: this is its first release, there is nothing to go back to", e.Path, e.Good)
}

// Hint says what to do instead.
func (e *FirstReleaseError) Hint() string {
	return "release a corrected version, or remove the path and let Argo CD prune it"
}

// UnchangedError means that both commits have the same at the path.
type UnchangedError struct{ Path, Bad, Good string }

func (e *UnchangedError) Error() string {
	return fmt.Sprintf("path %s is the same in %.12s and %.12s: the release did not come from there", wording(e.Path), e.Bad, e.Good)
}

// Hint says what to look at.
func (e *UnchangedError) Hint() string {
	return "check deploy.argocd.path in sluice.yaml: it is the directory whose change made the release"
}

// NotFoundError means that the repository is there and a part of it is not.
type NotFoundError struct{ URL, What string }

func (e *NotFoundError) Error() string { return fmt.Sprintf("%s has no %s", e.URL, e.What) }

// Hint says what to look at.
func (e *NotFoundError) Hint() string {
	return "check deploy.argocd.repository, path and revision in sluice.yaml; a branch that was force-pushed has lost its old commits"
}

// ProtectedError means that the server took the push and refused to move the branch.
type ProtectedError struct {
	URL, Ref, Why string
	Said          string // by the server, to a person
}

func (e *ProtectedError) Error() string {
	text := fmt.Sprintf("%s refuses to change %s: %s", e.URL, e.Ref, e.Why)
	if e.Said != "" {
		text += " (" + e.Said + ")"
	}
	return text
}

// Hint says what to do instead.
func (e *ProtectedError) Hint() string {
	if strings.HasPrefix(e.Ref, "refs/tags/") {
		return "the tag is protected: let the account of deploy.argocd.secret create version tags, or revert and tag by hand"
	}
	return "the branch is protected: let the account of deploy.argocd.secret push to it, or set deploy.argocd.revert: branch and merge by hand"
}

// AuthError means that the server does not accept the credentials, or not for this.
type AuthError struct {
	URL     string
	Write   bool // it was about pushing
	Given   bool // there were credentials
	Allowed bool // they are known, and do not suffice
	Err     error
}

func (e *AuthError) Error() string {
	switch {
	case e.Allowed && e.Write:
		return fmt.Sprintf("this account may not push to %s", e.URL)
	case e.Allowed:
		return fmt.Sprintf("this account may not read %s", e.URL)
	case !e.Given:
		return fmt.Sprintf("%s wants a log-in, and there are no credentials", e.URL)
	}
	return fmt.Sprintf("%s does not accept the credentials: the token is wrong, expired or revoked", e.URL)
}

func (e *AuthError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *AuthError) Hint() string {
	return "put username and a fresh token with the right to push into the Secret of deploy.argocd.secret; traffic is on the stable version in any case"
}

// GoneError means that there is no repository, or none that this account can see.
type GoneError struct {
	URL string
	Err error
}

func (e *GoneError) Error() string { return fmt.Sprintf("there is no repository at %s", e.URL) }
func (e *GoneError) Unwrap() error { return e.Err }

// Hint says what to look at.
func (e *GoneError) Hint() string {
	return "check deploy.argocd.repository in sluice.yaml; some servers say the same when the account may not see it"
}

// UnreachableError means that the server gave no answer, or none that makes sense.
type UnreachableError struct {
	URL string
	Err error
}

func (e *UnreachableError) Error() string { return fmt.Sprintf("no answer from %s: %v", e.URL, e.Err) }
func (e *UnreachableError) Unwrap() error { return e.Err }

// Temporary reports whether the same may work later.
func (e *UnreachableError) Temporary() bool {
	var dns *net.DNSError
	return !e.certificate() && (!errors.As(e.Err, &dns) || !dns.IsNotFound)
}

// certificate reports whether it is the server's proof that is not accepted.
func (e *UnreachableError) certificate() bool {
	var refused *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	return errors.As(e.Err, &refused) || errors.As(e.Err, &unknown) || strings.Contains(e.Err.Error(), "knownhosts: ")
}

// Hint says what to look at.
func (e *UnreachableError) Hint() string {
	if e.certificate() {
		return "the server's certificate or key is not trusted here: give the authority that issued it (ca.crt), or for SSH the server's line in known_hosts"
	}
	return "see whether the git server is up and can be reached from the cluster; the revert can be repeated at any time"
}

// TooLargeError means that the server sent more than is taken.
type TooLargeError struct {
	URL      string
	Bytes    int64 // that would have been taken
	Unpacked bool  // it is not what was sent that has more, but the objects in it
}

func (e *TooLargeError) Error() string {
	if e.Unpacked {
		return fmt.Sprintf("what %s sends unpacks to more than %d bytes", e.URL, e.Bytes)
	}
	return fmt.Sprintf("%s sends more than %d bytes", e.URL, e.Bytes)
}

// Hint says what helps.
func (e *TooLargeError) Hint() string {
	return "let the git server allow partial clones, then no files are sent (git config uploadpack.allowFilter true; uploadpack.allowReachableSHA1InWant true)"
}

// raceError means that somebody else was faster.
type raceError struct{ Ref string }

func (e *raceError) Error() string {
	return fmt.Sprintf("%s is being changed by others all the time", e.Ref)
}

// What was being done when a server refused.
const (
	reading = false
	writing = true
)

// explain makes errors of the transport into those of this package.
func explain(repo Repo, write bool, err error) error {
	err = bare(err)
	var status *githttp.Err
	var network net.Error
	given := repo.Auth.Password != "" || len(repo.Auth.SSHKey) > 0
	text := err.Error()
	switch {
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return &GoneError{URL: repo.URL, Err: err}
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return &NotFoundError{URL: repo.URL, What: "commit at all"}
	case errors.Is(err, transport.ErrAuthenticationRequired), strings.Contains(text, "unable to authenticate"):
		return &AuthError{URL: repo.URL, Write: write, Given: given, Err: err}
	case errors.Is(err, transport.ErrAuthorizationFailed):
		return &AuthError{URL: repo.URL, Write: write, Given: given, Allowed: true, Err: err}
	case errors.As(err, &status) && status.StatusCode() < http.StatusInternalServerError && status.StatusCode() != http.StatusTooManyRequests:
		return fmt.Errorf("%s answered with HTTP status %d", repo.URL, status.StatusCode())
	case errors.As(err, &status):
		return &UnreachableError{URL: repo.URL, Err: fmt.Errorf("HTTP status %d", status.StatusCode())}
	case errors.As(err, &network), errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		strings.Contains(text, "connection refused"), strings.Contains(text, "connection reset"), strings.Contains(text, "empty packfile"), strings.Contains(text, "knownhosts: "):
		return &UnreachableError{URL: repo.URL, Err: err}
	}
	if strings.Contains(text, "pkt-len") || strings.Contains(text, "pkt-line") {
		return &GoneError{URL: repo.URL, Err: fmt.Errorf("what answers is no git server: %w", err)}
	}
	return fmt.Errorf("%s: %w", repo.URL, err)
}

// bare takes off wrappers that hide the error in them.
func bare(err error) error {
	var hidden *plumbing.UnexpectedError
	var permanent *plumbing.PermanentError
	switch {
	case errors.As(err, &hidden):
		return bare(hidden.Err)
	case errors.As(err, &permanent):
		return bare(permanent.Err)
	}
	return err
}

// refused reports whether the server did not give out what was asked for, in
// contrast to a server that could not be asked.
func refused(err error) bool {
	var away *UnreachableError
	var auth *AuthError
	var gone *GoneError
	var large *TooLargeError
	return !errors.As(err, &away) && !errors.As(err, &auth) && !errors.As(err, &gone) && !errors.As(err, &large)
}
