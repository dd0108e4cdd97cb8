package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/sign"
)

// RefusedError means that a release was turned away before it got any traffic.
type RefusedError struct {
	Trigger canary.Trigger
	Err     error
}

func (e *RefusedError) Error() string { return e.Err.Error() }

func (e *RefusedError) Unwrap() error { return e.Err }

// ExitCode is that of an invalid measurement for a signature that does not
// hold, and that of a failed verdict for a denial.
func (e *RefusedError) ExitCode() int {
	if e.Trigger == canary.Signature {
		return gate.Invalid.ExitCode()
	}
	return gate.Fail.ExitCode()
}

// verdict is what the ledger calls it. The gate was not asked about a release
// that the rules denied.
func (e *RefusedError) verdict() string {
	if e.Trigger == canary.Signature {
		return gate.Invalid.String()
	}
	return ""
}

// verifiedRelease is a release whose manifest, files and signatures hold. Only
// verify makes one.
type verifiedRelease struct {
	release.Release
	digest string           // of the manifest
	native release.Artifact // the binary that runs on this machine
}

func (r verifiedRelease) object() bpf.Digest { return bpf.Digest("sha256:" + r.Object.SHA256) }

// NoReleaseError means that a version was never made in this out folder.
type NoReleaseError struct{ Version, Dir string }

func (e *NoReleaseError) Error() string {
	return fmt.Sprintf("there is no release %s in %s", e.Version, e.Dir)
}

// Hint says how it comes into being.
func (e *NoReleaseError) Hint() string { return "make it first: sluice publish --version " + e.Version }

// verify checks a release as it lies in the out folder: the manifest's
// signature, every file against the manifest, and the signatures of the binary
// and the probe object that are to be run. It returns the object's bytes as
// they were verified. What does not hold is a *RefusedError.
func (j Job) verify(version string) (rel verifiedRelease, object []byte, err error) {
	dir := filepath.Join(j.Out, "releases", version)
	if _, err := os.Stat(filepath.Join(dir, "release.json")); errors.Is(err, fs.ErrNotExist) {
		return rel, nil, &NoReleaseError{version, filepath.Dir(dir)}
	}
	v, err := j.verifier()
	if err != nil {
		return rel, nil, err
	}
	if rel, err = j.verifyManifest(v, version, dir); err != nil {
		return rel, nil, &RefusedError{Trigger: canary.Signature, Err: err}
	}
	if rel.native, err = nativeArtifact(rel.Release); err != nil {
		return rel, nil, err
	}
	if _, err := verified(v, filepath.Join(dir, filepath.FromSlash(rel.native.Path))); err != nil {
		return rel, nil, &RefusedError{Trigger: canary.Signature, Err: err}
	}
	if object, err = verified(v, filepath.Join(dir, filepath.FromSlash(rel.Object.Path))); err != nil {
		return rel, nil, &RefusedError{Trigger: canary.Signature, Err: err}
	}
	return rel, object, nil
}

// verifyManifest checks the manifest's signature and every file against it.
func (j Job) verifyManifest(v *sign.Verifier, version, dir string) (rel verifiedRelease, err error) {
	raw, err := verified(v, filepath.Join(dir, "release.json"))
	if err != nil {
		return rel, err
	}
	if rel.Release, err = release.Decode(raw); err != nil {
		return rel, err
	}
	if rel.Name != j.Config.Name || rel.Version != version {
		return rel, fmt.Errorf("the manifest is of %s %s, not of %s %s", rel.Name, rel.Version, j.Config.Name, version)
	}
	if rel.Object == nil {
		return rel, errors.New("the release has no probe object")
	}
	if rel.digest, err = rel.Digest(); err != nil {
		return rel, err
	}
	return rel, rel.VerifyFiles(dir)
}

// nativeArtifact is the binary of a release that runs on this machine.
func nativeArtifact(r release.Release) (release.Artifact, error) {
	want := runtime.GOOS + "/" + runtime.GOARCH
	for _, a := range r.Artifacts {
		if a.Platform == want {
			return a, nil
		}
	}
	return release.Artifact{}, fmt.Errorf("release %s has no binary for %s; add it to build.platforms", r.Version, want)
}
