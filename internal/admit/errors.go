package admit

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sluice-cd/sluice/internal/image"
)

// Problem is what is wrong with an image.
type Problem string

// The problems of an image.
const (
	Reference Problem = "reference" // it is not named by tag and digest
	Moved     Problem = "moved"     // its tag names another image by now
	Damaged   Problem = "damaged"   // the registry sends something else than what its digest says
	Unsigned  Problem = "unsigned"  // a statement that has to be there is not
	Foreign   Problem = "foreign"   // a statement is there, but not by somebody who was named
	Unrelated Problem = "unrelated" // a statement is there, but about something else
	Release   Problem = "release"   // the manifest is of another release, or does not fit the image
	Denied    Problem = "denied"    // a rule objects
)

// Error means that an image is not admitted.
type Error struct {
	Problem Problem
	Ref     string
	What    string // which part or statement: "signature", "SBOM for linux/arm64"; may be empty
	Err     error
}

func (e *Error) Error() string {
	what := e.What
	if what != "" {
		what += ": "
	}
	return fmt.Sprintf("image %s is not admitted: %s%v", e.Ref, what, e.Err)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Signature reports whether what is wrong is that something is not signed, or is
// not what was signed: a reason to look for who did that, and not just to release
// something better.
func (e *Error) Signature() bool {
	var denied *DeniedError
	switch {
	case errors.As(e.Err, &denied):
		return denied.signature()
	case e.Problem == Reference || e.Problem == Release:
		return false
	}
	return true
}

// RulesError means that nothing is known about an image, because the rules give no
// answer: they do not compile, or take too long. It says nothing about the image.
type RulesError struct {
	Ref string
	Err error
}

func (e *RulesError) Error() string {
	return fmt.Sprintf("the rules could not be asked about %s: %v", e.Ref, e.Err)
}

// Unwrap gives the cause.
func (e *RulesError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *RulesError) Hint() string {
	var advice interface{ Hint() string }
	if errors.As(e.Err, &advice) && advice.Hint() != "" {
		return advice.Hint()
	}
	return "see that the rules in policy.dirs compile and answer in time, then sync again"
}

// hints are what to do about a problem.
var hints = map[Problem]string{
	Reference: "name it as REPOSITORY:VERSION@sha256:DIGEST (kustomize edit set image NAME=…)",
	Moved:     "somebody pushed another image under this version; release it under a new one, and set tag and digest together",
	Damaged:   "what the registry has is damaged or was tampered with; publish the release again, and find out who can write there",
	Unsigned:  "publish the release with sluice publish, which signs and attaches all of it",
	Foreign:   "sign it with the release key, or let sign.public_key name the key that signed it",
	Unrelated: "the statement was made for something else: publish the release again, and do not copy statements from one image to another",
	Release:   "set the tag to the version of the release, and publish image and manifest together",
}

// Hint says what to do about it.
func (e *Error) Hint() string {
	var denied *DeniedError
	if errors.As(e.Err, &denied) {
		return denied.Hint()
	}
	return hints[e.Problem]
}

// RegistryError means that nothing is known about an image, because the registry
// did not answer, or not with it.
type RegistryError struct {
	Ref string
	Err error
}

func (e *RegistryError) Error() string {
	switch {
	case e.Refused():
		return fmt.Sprintf("the registry does not let us read %s: %v", e.Ref, cause(e.Err))
	case e.Absent():
		return fmt.Sprintf("the registry has no %s: %v", e.Ref, cause(e.Err))
	}
	return fmt.Sprintf("the registry could not be asked for %s: %v", e.Ref, cause(e.Err))
}

// cause leaves out what package image says, too.
func cause(err error) error {
	var pull *image.PullError
	if errors.As(err, &pull) {
		return pull.Err
	}
	return err
}

// Unwrap gives the cause.
func (e *RegistryError) Unwrap() error { return e.Err }

// Refused reports whether the registry demands other credentials.
func (e *RegistryError) Refused() bool {
	return e.status() == http.StatusUnauthorized || e.status() == http.StatusForbidden
}

// Absent reports whether the registry has no such image.
func (e *RegistryError) Absent() bool { return e.status() == http.StatusNotFound }

func (e *RegistryError) status() int {
	var answer *transport.Error
	if errors.As(e.Err, &answer) {
		return answer.StatusCode
	}
	return 0
}

// Temporary reports whether the same question may be answered later.
func (e *RegistryError) Temporary() bool {
	var pull *image.PullError
	return errors.As(e.Err, &pull) && pull.Temporary()
}

// Hint says what would help.
func (e *RegistryError) Hint() string {
	var plain *image.PlainHTTPError
	switch {
	case errors.As(e.Err, &plain):
		return plain.Hint()
	case e.Refused():
		return "give the hooks credentials for the registry: deploy.kubernetes.pull_secret in sluice.yaml"
	case e.Absent():
		return "publish it first, and look at repository and digest for typing errors"
	}
	return "see whether the registry is up and can be reached from the cluster, then sync again"
}

// notRead tells a registry that does not answer from one that tells lies.
func notRead(ref string, err error) error {
	var content *image.ContentError
	if errors.As(err, &content) {
		return &Error{Problem: Damaged, Ref: ref, What: content.What, Err: content.Err}
	}
	return &RegistryError{Ref: ref, Err: err}
}
