// Package admit decides whether an image in a registry may get traffic.
//
// It takes nobody's word for anything: the image is read to its last byte and
// compared with the digest by which it was named, and everything that is claimed
// about it has to be signed by somebody whom the caller named. What has to be
// there is what `sluice publish` leaves in a registry: a signature of the image,
// its provenance, the release manifest, and for each platform the SBOM of the
// program in it. Then the same rules are asked as when the release was made.
//
// An [Error] says that the image is not admitted, a [RegistryError] that it could
// not be looked at, a [RulesError] that the rules have no answer. None of them
// lets it through.
package admit

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/image"
	"github.com/sluice-cd/sluice/internal/reference"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/sign"
)

// DefaultTimeout bounds everything when Demands.Timeout is zero.
const DefaultTimeout = 2 * time.Minute

// Demands is what an image has to meet.
type Demands struct {
	// Verifiers name who may have signed: a key ([sign.OpenVerifier]), or an
	// identity and a trusted root ([sign.OpenIdentityVerifier]). Each statement has
	// to be signed by one of them; without any, nothing is admitted.
	Verifiers []*sign.Verifier

	Name        string // of the release; "": any that is signed
	Running     string // version that serves now, for the rules; "": none
	BudgetBytes int64  // what the rules take for the size budget of a program; 0: none
	Policy      Policy

	Insecure bool          // plain HTTP, from a registry on this machine only
	Timeout  time.Duration // for everything; 0: DefaultTimeout
}

// Policy adds to the built-in rules, as the section policy of sluice.yaml does.
type Policy struct {
	Dirs                           []string // folders with Rego
	DeniedPackages, DeniedLicenses []string
}

// Evidence is what is known of an image that was admitted.
type Evidence struct {
	Digest    string          // of the image index, "sha256:…"
	Name      string          // of the release
	Version   string          // of the release
	Commit    string          // of its source; "": not known
	Object    bpf.Digest      // of the eBPF object that is to observe it
	Manifest  string          // digest of the release manifest, "sha256:…"
	Release   release.Release // the manifest
	Platforms []string        // what the image has: "linux/amd64", …
	Checked   []string        // what was verified, a line each
}

// Image looks at "host[:port]/repository:tag@sha256:…" and at what is signed
// about it. The tag has to be that of the release, and has to name the digest. The
// error is an *Error, a *RegistryError or a *RulesError.
func Image(ctx context.Context, ref string, d Demands) (Evidence, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(d.Timeout, DefaultTimeout))
	defer cancel()
	tag, err := parse(ref)
	if err != nil {
		return Evidence{}, &Error{Problem: Reference, Ref: ref, Err: err}
	}
	stored, err := image.PullImage(ctx, ref, image.PullOptions{Insecure: d.Insecure, Timeout: cmp.Or(d.Timeout, DefaultTimeout)})
	if err != nil {
		return Evidence{}, notRead(ref, err)
	}
	a := &admission{Demands: d, ref: ref, tag: tag, stored: stored}
	if err := a.verify(ctx); err != nil {
		return Evidence{}, err
	}
	return a.evidence, nil
}

// parse returns the tag of a reference that has one, and a digest.
func parse(ref string) (tag string, err error) {
	i := reference.Parse(ref)
	if i.Digest == "" {
		return "", errors.New("it names no digest, so what is behind it may change")
	}
	if _, err := name.NewDigest(ref, name.StrictValidation); err != nil {
		return "", err
	}
	if i.Tag == "" {
		return "", errors.New("it names no tag, which is the version")
	}
	return i.Tag, nil
}
