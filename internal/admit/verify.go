package admit

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/image"
	"github.com/sluice-cd/sluice/internal/policy"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/sign"
)

// admission is one image on its way.
type admission struct {
	Demands
	ref, tag string
	stored   image.Stored
	release  release.Release
	evidence Evidence
}

// verify makes all checks, the cheap and telling ones first.
func (a *admission) verify(ctx context.Context) error {
	if len(a.Verifiers) == 0 {
		return a.refuse(Foreign, "signature", "nobody was named who may have signed")
	}
	if got := a.stored.Tagged; got != a.stored.Digest {
		if got == "" {
			return a.refuse(Moved, "", "the registry has no tag %s", a.tag)
		}
		return a.refuse(Moved, "", "the tag %s is %.19s in the registry", a.tag, got)
	}
	if _, err := a.find(a.stored.Bundles, demand{"signature", sign.PredicateImage, []string{bare(a.stored.Digest)}}); err != nil {
		return err
	}
	if err := a.manifest(); err != nil {
		return err
	}
	in, err := a.input()
	if err != nil {
		return err
	}
	if err := a.judge(ctx, in); err != nil {
		return err
	}
	r := a.release
	a.evidence.Digest, a.evidence.Release = a.stored.Digest, r
	a.evidence.Name, a.evidence.Version, a.evidence.Commit = r.Name, r.Version, r.Commit
	if r.Object != nil {
		a.evidence.Object = bpf.Digest("sha256:" + r.Object.SHA256)
	}
	a.evidence.Manifest, err = r.Digest()
	return err
}

// manifest reads the release manifest and compares it with the image.
func (a *admission) manifest() error {
	raw, err := a.find(a.stored.Bundles, demand{"release manifest", image.PredicateRelease, []string{bare(a.stored.Digest)}})
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a.release); err != nil {
		return a.refuse(Release, "release manifest", "decoding it: %w", err)
	}
	if _, err := a.release.Encode(); err != nil {
		return a.refuse(Release, "release manifest", "%w", err)
	}
	switch r := a.release; {
	case r.Image != a.stored.Digest:
		return a.refuse(Release, "release manifest", "it is of the image %.19s", r.Image)
	case a.Name != "" && r.Name != a.Name:
		return a.refuse(Release, "release manifest", "it is of %q, expected %q", r.Name, a.Name)
	case image.TagFor(r.Version) != a.tag:
		return a.refuse(Release, "release manifest", "it is of version %s, the image is tagged %s", r.Version, a.tag)
	}
	return nil
}

// input is the document that the rules see, as the step policy makes it, of what
// the image has: binaries for other systems are not in a registry.
func (a *admission) input() (policy.Input, error) {
	r := a.release
	in := policy.Input{
		Release: policy.Release{Name: r.Name, Version: r.Version, Commit: r.Commit, Running: a.Running},
		Image:   policy.Image{Digest: a.stored.Digest, Signed: true},
	}
	if in.Release.Running == r.Version {
		in.Release.Running = "" // to roll the same version out again is no downgrade
	}
	for _, p := range a.stored.Platforms {
		artifact, err := a.platform(p)
		if err != nil {
			return in, err
		}
		in.Artifacts = append(in.Artifacts, artifact)
		a.evidence.Platforms = append(a.evidence.Platforms, p.Platform)
	}
	if o := r.Object; o != nil {
		doc, err := a.find(a.stored.Bundles, demand{"SBOM of the eBPF object", sign.PredicateCycloneDX, []string{o.SHA256}})
		if err != nil {
			return in, err
		}
		in.Object = policy.Object{Path: o.Path, SHA256: o.SHA256, Signed: true, SBOM: doc, SBOMSigned: true}
	}
	return in, nil
}

// platform checks the image of one platform: what it starts is a program of the
// release, and both were signed with provenance and SBOM.
func (a *admission) platform(p image.StoredPlatform) (policy.Artifact, error) {
	for _, m := range a.release.Artifacts {
		if m.SHA256 != p.Program || !strings.HasPrefix(p.Platform+"/", m.Platform+"/") {
			continue
		}
		if _, err := a.find(a.stored.Bundles, demand{
			"provenance for " + p.Platform, sign.PredicateProvenance, []string{bare(a.stored.Digest), m.SHA256},
		}); err != nil {
			return policy.Artifact{}, err
		}
		doc, err := a.find(p.Bundles, demand{"SBOM for " + p.Platform, sign.PredicateCycloneDX, []string{bare(p.Digest), m.SHA256}})
		return policy.Artifact{
			Platform: m.Platform, Path: m.Path, SHA256: m.SHA256, SizeBytes: m.SizeBytes, BudgetBytes: a.BudgetBytes,
			Signed: true, SBOM: doc, SBOMSigned: true,
		}, err
	}
	return policy.Artifact{}, a.refuse(Release, "image for "+p.Platform, "it starts a program (sha256 %.12s…) that the release does not name for this platform", p.Program)
}

// judge asks the rules.
func (a *admission) judge(ctx context.Context, in policy.Input) error {
	denials, err := policy.Evaluate(ctx, in, policy.Options{
		Dirs: a.Policy.Dirs,
		Data: map[string]any{"denied": map[string]any{
			"packages": append([]string{}, a.Policy.DeniedPackages...), // never nil, which Rego would see as null
			"licenses": append([]string{}, a.Policy.DeniedLicenses...),
		}},
	})
	switch {
	case ctx.Err() != nil: // it was not for the rules to say
		return &RegistryError{Ref: a.ref, Err: ctx.Err()}
	case err != nil:
		return &RulesError{Ref: a.ref, Err: err}
	case len(denials) > 0:
		return &Error{Problem: Denied, Ref: a.ref, Err: &DeniedError{denials}}
	}
	a.evidence.Checked = append(a.evidence.Checked, "rules")
	return nil
}
