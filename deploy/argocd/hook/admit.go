package hook

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/sluice-cd/sluice/internal/admit"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/sign"
)

// admitImage is a variable for the tests of what hooks make of an answer; how
// images are judged is tested with registries where it is written.
var admitImage = admit.Image

// admitted asks what is signed about the image. The verdict is a refusal if that
// is not enough; an error means that nothing could be found out.
func (h *hook) admitted(ctx context.Context, running string) (release.Rollout, Verdict, error) {
	signer, err := h.verifier()
	if errors.Is(err, fs.ErrNotExist) {
		err = &SettingsError{
			What: err.Error() + ": nothing says whose signature counts", Advice: "sluice-argo render puts it into setup (--key cosign.pub, or sign.keyless), and kubectl apply -k setup into the cluster",
		}
	}
	if err != nil {
		return release.Rollout{}, Verdict{}, err
	}
	p := h.Config.Policy
	for _, dir := range p.Dirs {
		if _, err := os.Stat(dir); err != nil {
			return release.Rollout{}, Verdict{}, &SettingsError{What: "the rules in policy.dirs are not in this pod: " + err.Error()}
		}
	}
	e, err := admitImage(ctx, h.Image, admit.Demands{
		Verifiers: []*sign.Verifier{signer}, Name: h.service(), Running: running, BudgetBytes: h.Config.Build.Budget.Bytes(),
		Policy:   admit.Policy{Dirs: p.Dirs, DeniedPackages: p.DeniedPackages, DeniedLicenses: p.DeniedLicenses},
		Insecure: h.Config.Publish.Insecure,
	})
	if err != nil {
		v, err := refusal(err)
		return release.Rollout{}, v, err
	}
	for _, line := range e.Checked {
		h.say("verified: %s", line)
	}
	return release.Rollout{Object: string(e.Object), Commit: e.Commit, Digest: e.Manifest}, Verdict{}, nil
}

// verifier names who has to have signed: an identity, or who has the key.
func (h *hook) verifier() (*sign.Verifier, error) {
	if k := h.Config.Sign.Keyless; k.Given() {
		return sign.OpenIdentityVerifier(h.TrustedRoot, sign.Identity{Subject: k.Identity, SubjectRegexp: k.IdentityRegexp, Issuer: k.Issuer})
	}
	return sign.OpenVerifier(h.PublicKey)
}

// refusal tells an image that may not get traffic from a registry that cannot be
// asked, and from rules that have no answer. That there is no such image is the
// release's fault.
func refusal(err error) (Verdict, error) {
	var bad *admit.Error
	var registry *admit.RegistryError
	v := Verdict{Verdict: gate.Fail.String(), Reason: err.Error()}
	switch {
	case errors.As(err, &bad):
		v.Hint = bad.Hint()
		if bad.Signature() {
			v.Verdict, v.Trigger = gate.Invalid.String(), release.Signature
		}
	case errors.As(err, &registry) && registry.Absent():
		v.Hint = registry.Hint()
	default:
		return Verdict{}, err
	}
	return v, nil
}
