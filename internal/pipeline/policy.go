package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/policy"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/sign"
)

// Policy asks the rules whether the release may go out.
type Policy struct {
	Job
	Sign    *Sign
	Denials []policy.Denial
}

// DeniedError lists why a release may not go out.
type DeniedError struct{ Denials []policy.Denial }

func (e *DeniedError) Error() string {
	var lines []string
	inputs := map[string]int{}
	for _, d := range e.Denials {
		line := d.Rule + ": " + d.Message
		if inputs[line]++; inputs[line] == 1 {
			lines = append(lines, line)
		}
	}
	for i, line := range lines {
		if n := inputs[line]; n > 1 {
			lines[i] = fmt.Sprintf("%s (in %d files)", line, n)
		}
	}
	return "denied: " + strings.Join(lines, "; ")
}

// Hint is how to make the rules agree.
func (e *DeniedError) Hint() string {
	var fixes []string
	for _, d := range e.Denials {
		if !slices.Contains(fixes, d.Fix) {
			fixes = append(fixes, d.Fix)
		}
	}
	return strings.Join(fixes, "\n    ")
}

func (*Policy) String() string { return "policy" }

// Run evaluates the built-in rules and the user's own.
func (s *Policy) Run(ctx context.Context) (string, error) {
	in, err := s.input()
	if err != nil {
		return "", err
	}
	cfg := s.Config.Policy
	tested, err := s.test(ctx)
	if err != nil {
		return "", err
	}
	s.Denials, err = policy.Evaluate(ctx, in, policy.Options{
		Dirs: cfg.Dirs,
		Data: map[string]any{"denied": map[string]any{"packages": texts(cfg.DeniedPackages), "licenses": texts(cfg.DeniedLicenses)}},
	})
	if err != nil {
		return "", err
	}
	if len(s.Denials) > 0 {
		return "", &RefusedError{Trigger: trigger(s.Denials), Err: &DeniedError{s.Denials}}
	}
	return list(fmt.Sprintf("nothing denied in %d artifacts", len(in.Artifacts)+1), tested), nil
}

// test runs the tests that come with the user's own rules: a rule that does not
// do what its author says decides nothing.
func (s *Policy) test(ctx context.Context) (string, error) {
	if len(s.Config.Policy.Dirs) == 0 {
		return "", nil
	}
	results, err := policy.Test(ctx, s.Config.Policy.Dirs)
	if err != nil || len(results) == 0 {
		return "", err
	}
	for _, r := range results {
		if !r.Passed {
			return "", fmt.Errorf("%s:%d: test %s of the rules does not pass", r.File, r.Line, r.Name)
		}
	}
	return fmt.Sprintf("%d tests of your rules pass", len(results)), nil
}

// texts is the list without being nil, which Rego would see as null.
func texts(list []string) []string { return append([]string{}, list...) }

// trigger is signature if all that the rules object to is that something is not
// signed, or is an SBOM of something else.
func trigger(denials []policy.Denial) canary.Trigger {
	for _, d := range denials {
		if d.Rule != "missing_signature" && d.Rule != "foreign_sbom" {
			return canary.None
		}
	}
	return canary.Signature
}

// input is the document that the rules see. Whether something is signed is
// found out here, by verifying it.
func (s *Policy) input() (policy.Input, error) {
	v, err := s.verifier()
	if err != nil {
		return policy.Input{}, err
	}
	r := s.Sign.Release
	running, err := s.running()
	if err != nil {
		return policy.Input{}, err
	}
	in := policy.Input{
		Release: policy.Release{Name: r.Name, Version: r.Version, Commit: r.Commit, Running: running},
		Object:  policy.Object{Path: r.Object.Path, SHA256: r.Object.SHA256, Signed: holdsFile(v, s.Sign.Object.file())},
		Image:   policy.Image{Digest: r.Image},
	}
	if bundle, err := os.ReadFile(s.Sign.imageSig()); err == nil {
		_, err = v.Attestation(bundle, bare(r.Image), sign.PredicateImage)
		in.Image.Signed = err == nil
	}
	if in.Object.SBOM, in.Object.SBOMSigned, err = s.sbomOf(v, s.Sign.Object.file()); err != nil {
		return in, err
	}
	for _, b := range s.Sign.Build.Binaries {
		a := policy.Artifact{
			Platform: b.Platform.String(), Path: b.Path, SHA256: bare(b.Digest), SizeBytes: b.SizeBytes,
			BudgetBytes: s.Config.Build.Budget.Bytes(), Signed: holdsFile(v, b.Path),
		}
		if a.SBOM, a.SBOMSigned, err = s.sbomOf(v, b.Path); err != nil {
			return in, err
		}
		in.Artifacts = append(in.Artifacts, a)
	}
	return in, nil
}

// running is the version that serves now, as the ledger has it. To roll the same
// version out again is no downgrade: it is how a run is repeated.
func (s *Policy) running() (string, error) {
	list, err := history(s.Out)
	if err != nil {
		return "", err
	}
	if r, ok := release.Running(list); ok && r.Version != s.Version {
		return r.Version, nil
	}
	return "", nil
}

func (s *Policy) sbomOf(v *sign.Verifier, path string) (doc json.RawMessage, signed bool, err error) {
	inv, ok := s.Sign.SBOM.of(path)
	if !ok {
		return nil, false, nil
	}
	doc, err = readFile(inv.CycloneDX)
	return doc, holdsFile(v, inv.CycloneDX) && holdsFile(v, inv.SPDX), err
}

func holdsFile(v *sign.Verifier, path string) bool {
	_, err := verified(v, path)
	return err == nil
}
