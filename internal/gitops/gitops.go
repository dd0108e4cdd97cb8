// Package gitops takes a release back in the git repository that Argo CD syncs
// from, and says whether Argo CD would find releases there at all.
//
// [Revert] makes one commit on top of a branch: everything below one path is
// again as it was in an earlier commit, bit for bit, and nothing else changes. It
// works on tree hashes alone. From a server that allows partial clones no file is
// ever fetched, so the size of the repository does not matter. The new commit is
// pushed on condition that the branch is still where it was read; whoever is
// second looks again. Doing it twice, or from two places at once, makes one commit.
//
// The package knows nothing of clusters, verdicts or traffic: callers bring the
// commits and the words.
package gitops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

// Repo is a repository and the part of it that a service is deployed from.
type Repo struct {
	URL      string        // https, http, ssh (also user@host:path) or file
	Branch   string        // "" or HEAD: the branch that the remote calls its HEAD
	Path     string        // with forward slashes; "" or ".": all of it
	Auth     Auth          //
	Timeout  time.Duration // of a whole call; 0: one minute
	MaxBytes int64         // of what is fetched at once, as it is sent; unpacked four times as many. 0: 16 MiB
}

// Auth is how to log in. Credentials in the URL count when these are empty.
type Auth struct {
	Username   string // for SSH the default is git
	Password   string // or a token
	SSHKey     []byte // private key in PEM
	Passphrase string // of the key
	KnownHosts string // file with the server's SSH key; "": those of the system
	CA         []byte // PEM: who may vouch for the server besides the authorities of the system
}

// defaultTimeout and defaultMaxBytes are for a Repo that says nothing else.
const (
	defaultTimeout  = time.Minute
	defaultMaxBytes = 16 << 20
)

// Mode is where a revert goes.
type Mode string

// The two ways; their words are those of deploy.argocd.revert.
const (
	Push   Mode = "push"   // onto the branch itself
	Branch Mode = "branch" // onto a branch of its own, for a person to merge
)

// Change is what is to be taken back, and the words for it.
type Change struct {
	Bad, Good  string // full hashes of the commits: what was deployed, and what to go back to
	Mode       Mode   // "": Push
	Constraint string // the targetRevision if Argo CD follows tags: the commit is then tagged as their next patch version

	Name     string // of the service
	Version  string // that is taken back; may be empty
	Verdict  string // one word
	Reason   string // one sentence
	Evidence string // a link or digest; may be empty

	Author string    // "Name <address>"; "": sluice
	Time   time.Time // zero: now
}

// Result is what came of a revert.
type Result struct {
	Commit  string // at which the path is as in Good
	Branch  string // that has the commit
	Tag     string // that points to it; empty without a constraint
	Already bool   // nothing had to be done
}

// defaultAuthor signs off commits when the Change names nobody.
const defaultAuthor = "sluice <sluice@sluice.dev>"

// attempts is how often a push is tried when others push as well.
const attempts = 8

// Revert makes the path in the head of the branch what it is in Good, if it still
// is what it is in Bad; other paths may have moved on. It is done when it is done
// already. Errors: *MovedOnError, *FirstReleaseError, *UnchangedError,
// *ProtectedError, *AuthError, *GoneError, *UnreachableError, *TooLargeError,
// *NotFoundError, *RevisionError.
func Revert(ctx context.Context, repo Repo, change Change) (Result, error) {
	repo, change, err := complete(repo, change)
	if err != nil {
		return Result{}, fmt.Errorf("reverting %s: %w", change.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, repo.Timeout)
	defer cancel()
	var res Result
	for n := 1; ; n++ {
		if res, err = revert(ctx, repo, change); err == nil {
			return res, nil
		}
		if n >= attempts || !again(err, n) || !pause(ctx, n) {
			return Result{}, fmt.Errorf("reverting %s in %s: %w", change.Name, repo.URL, err)
		}
	}
}

// again reports whether an attempt is worth another one.
func again(err error, n int) bool {
	var raced *raceError
	var away *UnreachableError
	return errors.As(err, &raced) || errors.As(err, &away) && away.Temporary() && n < 4
}

// pause waits longer each time; it is false when there is no time left.
func pause(ctx context.Context, n int) bool {
	timer := time.NewTimer(time.Duration(n) * 150 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// complete fills in what was left out.
func complete(repo Repo, c Change) (Repo, Change, error) {
	repo, err := repo.complete()
	if err != nil {
		return repo, c, err
	}
	c.Mode, c.Author = cmp.Or(c.Mode, Push), cmp.Or(c.Author, defaultAuthor)
	if c.Time.IsZero() {
		c.Time = time.Now()
	}
	switch {
	case c.Mode != Push && c.Mode != Branch:
		return repo, c, fmt.Errorf("unknown mode %q (known: %q, %q)", c.Mode, Push, Branch)
	case !isHash(c.Bad) || !isHash(c.Good):
		return repo, c, fmt.Errorf("commits %q and %q, want their full hashes", c.Bad, c.Good)
	case c.Bad == c.Good:
		return repo, c, &UnchangedError{Path: repo.Path, Bad: c.Bad, Good: c.Good}
	case c.Name == "":
		return repo, c, errors.New("the service has no name")
	case strings.ContainsAny(c.Author, "\n\r\x00") || !strings.Contains(c.Author, " <") || !strings.HasSuffix(c.Author, ">"):
		return repo, c, fmt.Errorf("author %q, want Name <address>", c.Author)
	}
	return repo, c, nil
}

func (r Repo) complete() (Repo, error) {
	var err error
	if r.URL, r.Auth, err = withoutCredentials(r.URL, r.Auth); err != nil {
		return r, err
	}
	r.Timeout, r.MaxBytes = cmp.Or(r.Timeout, defaultTimeout), cmp.Or(r.MaxBytes, defaultMaxBytes)
	if r.Branch = strings.TrimPrefix(r.Branch, "refs/heads/"); r.Branch == "HEAD" {
		r.Branch = ""
	}
	clean := path.Clean("/" + r.Path)[1:]
	if strings.Contains("/"+r.Path+"/", "/../") {
		return r, fmt.Errorf("path %q leads out of the repository", r.Path)
	}
	r.Path = clean
	return r, nil
}

func isHash(s string) bool {
	return len(s) == 40 && strings.Trim(s, "0123456789abcdef") == ""
}
