package pipeline

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
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

// verifiedRelease is a release whose manifest, files and signatures hold. Only
// verify makes one.
type verifiedRelease struct {
	release.Release
	digest string           // of the manifest
	native release.Artifact // the binary that runs on this machine
}

func (r verifiedRelease) object() bpf.Digest { return bpf.Digest("sha256:" + r.Object.SHA256) }

// verify checks a release as it lies in the out folder: the manifest's
// signature, every file against the manifest, and the signatures of the binary
// and the probe object that are to be run. It returns the object's bytes as
// they were verified.
func (j Job) verify(version string) (rel verifiedRelease, object []byte, err error) {
	dir := filepath.Join(j.Out, "releases", version)
	v, err := j.verifier()
	if err != nil {
		return rel, nil, err
	}
	raw, err := verified(v, filepath.Join(dir, "release.json"))
	if err != nil {
		return rel, nil, err
	}
	if rel.Release, err = release.Decode(raw); err != nil {
		return rel, nil, err
	}
	if rel.Name != j.Config.Name || rel.Version != version {
		return rel, nil, fmt.Errorf("the manifest is of %s %s, not of %s %s", rel.Name, rel.Version, j.Config.Name, version)
	}
	if rel.Object == nil {
		return rel, nil, errors.New("the release has no probe object")
	}
	if rel.digest, err = rel.Digest(); err != nil {
		return rel, nil, err
	}
	if err := rel.VerifyFiles(dir); err != nil {
		return rel, nil, err
	}
	if rel.native, err = nativeArtifact(rel.Release); err != nil {
		return rel, nil, err
	}
	if _, err := verified(v, filepath.Join(dir, filepath.FromSlash(rel.native.Path))); err != nil {
		return rel, nil, err
	}
	object, err = verified(v, filepath.Join(dir, filepath.FromSlash(rel.Object.Path)))
	return rel, object, err
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
