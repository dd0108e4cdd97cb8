package pipeline

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/policy"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/sign"
)

// enter writes a rollout into the ledger.
func enter(t *testing.T, j Job, r release.Rollout, outcome release.Result) {
	t.Helper()
	ledger, err := release.OpenLedger(ledgerPath(j.Out))
	if err != nil {
		t.Fatal(err)
	}
	r.Name, r.Started, outcome.Ended = j.Config.Name, time.Now(), time.Now()
	id, err := ledger.Start(r)
	if err == nil {
		err = ledger.Finish(id, outcome)
	}
	if err := errors.Join(err, ledger.Close()); err != nil {
		t.Fatal(err)
	}
}

// A version that nobody runs may be made again; one that was promoted stays what
// it was.
func TestAVersionIsMadeAgainUntilItWasPromoted(t *testing.T) {
	w := newWorkshop(t)
	j := w.job
	manifest := func() string {
		raw, err := os.ReadFile(j.path("release.json"))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	w.mustMake("v1.0.0")
	first := manifest()
	w.write("main.go", strings.Replace(hello, "version) }", `version + "!") }`, 1))
	w.mustMake("v1.0.0")
	second := manifest()
	if second == first {
		t.Error("the manifest is of the source before")
	}
	if checks, err := Verify(j); err != nil {
		t.Errorf("what was made again does not hold: %v %v", checks, err)
	}
	enter(t, j, release.Rollout{Version: "v1.0.0"}, release.Result{Outcome: release.Promoted})
	w.write("main.go", hello)
	var exists *release.ExistsError
	var step *StepError
	if err := w.make(j); !errors.As(err, &exists) || !errors.As(err, &step) || step.Step != "sign" {
		t.Errorf("making a promoted version again: %v", err)
	}
	if manifest() != second {
		t.Error("the manifest of a promoted version was replaced")
	}
	if err := os.WriteFile(ledgerPath(j.Out), []byte("{\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.make(j); err == nil || manifest() != second {
		t.Errorf("with a ledger that cannot be read: %v", err)
	}
}

func TestAnImageNeedsALinuxPlatform(t *testing.T) {
	s := &Image{
		Job:   Job{Config: &config.Config{Build: config.Build{Platforms: []string{"windows/amd64", "darwin/arm64"}}}},
		Build: &Build{Binaries: []build.Binary{{Platform: build.Platform{OS: "windows", Arch: "amd64"}}, {Platform: build.Platform{OS: "darwin", Arch: "arm64"}}}},
	}
	if _, err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no Linux platform in build.platforms (windows/amd64, darwin/arm64)") {
		t.Errorf("got %v", err)
	}
}

func TestWhatAKeyErrorAdvises(t *testing.T) {
	const env = "SLUICE_TEST_PASSPHRASE"
	dir := t.TempDir()
	key, _, err := sign.GenerateKey(dir, []byte("right"))
	if err != nil {
		t.Fatal(err)
	}
	j := Job{Config: &config.Config{Sign: config.Sign{Key: key, PassphraseEnv: env}}, Out: dir}
	for name, tt := range map[string]struct{ pass, hint string }{
		"there is no passphrase":        {"", "put the passphrase of the key into the environment variable " + env},
		"the passphrase is another one": {"wrong", "the environment variable " + env + " does not hold the passphrase"},
	} {
		t.Setenv(env, tt.pass)
		_, err := j.signer()
		var wrong *KeyError
		var cause *sign.PassphraseError
		if !errors.As(err, &wrong) || !errors.As(err, &cause) || !strings.HasPrefix(wrong.Hint(), tt.hint) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := j.verifier(); !errors.As(err, &wrong) {
			t.Errorf("%s: verifying with the public half: %v", name, err)
		}
	}
	t.Setenv(env, "right")
	if _, err := j.verifier(); err != nil {
		t.Errorf("with the passphrase: %v", err)
	}
}

func TestLocalKeysThatCannotBeKept(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(out string) error
		says    string
	}{
		"there is a file in the place of the folder": {func(out string) error { return os.WriteFile(out+"/keys", nil, 0o600) }, "reading the passphrase of the local key: "},
		"the passphrase is a folder":                 {func(out string) error { return os.MkdirAll(out+"/keys/passphrase", 0o700) }, "reading the passphrase of the local key: "},
		"the out folder is a file":                   {func(out string) error { return errors.Join(os.Remove(out), os.WriteFile(out, nil, 0o600)) }, "reading the passphrase of the local key: "},
		"the out folder is a link to nowhere":        {func(out string) error { return errors.Join(os.Remove(out), os.Symlink("/nowhere/at/all", out)) }, "making the folder of the local key: "},
	} {
		j := Job{Config: &config.Config{Sign: config.Sign{KeyEnv: "SLUICE_TEST_NO_KEY", PassphraseEnv: "SLUICE_TEST_NO_PASSPHRASE"}}, Out: t.TempDir()}
		if err := tt.prepare(j.Out); err != nil {
			t.Fatal(err)
		}
		if _, err := j.signer(); err == nil || !strings.HasPrefix(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
	}
}

func TestRecordingsThatCannotBeJudgedAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(dir string) error
		says    string
	}{
		"there is none":           {func(string) error { return nil }, "reading a recorded rollout: "},
		"its verdict is torn":     {func(dir string) error { return os.WriteFile(dir+"/verdict.json", []byte("{"), 0o600) }, "/verdict.json: "},
		"its samples are missing": {func(dir string) error { return os.WriteFile(dir+"/verdict.json", []byte("{}"), 0o600) }, "reading recorded samples: "},
	} {
		dir := t.TempDir()
		if err := tt.prepare(dir); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Replay(dir, nil); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
	}
}

func TestDenialsSayEachThingOnce(t *testing.T) {
	big := policy.Denial{Rule: "size_budget", Message: "larger than 20 MiB", Fix: "raise build.budget"}
	unsigned := policy.Denial{Rule: "missing_signature", Message: "x is not signed", Fix: "sign it"}
	foreign := policy.Denial{Rule: "foreign_sbom", Message: "of something else", Fix: "make it again"}
	for name, tt := range map[string]struct {
		denials    []policy.Denial
		says, hint string
		trigger    canary.Trigger
	}{
		"one":                    {[]policy.Denial{big}, "denied: size_budget: larger than 20 MiB", "raise build.budget", canary.None},
		"the same in three":      {[]policy.Denial{big, big, big}, "denied: size_budget: larger than 20 MiB (in 3 files)", "raise build.budget", canary.None},
		"only signatures":        {[]policy.Denial{unsigned, foreign}, "denied: missing_signature: x is not signed; foreign_sbom: of something else", "sign it\n    make it again", canary.Signature},
		"a signature and a size": {[]policy.Denial{unsigned, big}, "denied: missing_signature: x is not signed; size_budget: larger than 20 MiB", "sign it\n    raise build.budget", canary.None},
	} {
		err := &DeniedError{tt.denials}
		if err.Error() != tt.says || err.Hint() != tt.hint || trigger(tt.denials) != tt.trigger {
			t.Errorf("%s: %q, hint %q, trigger %q", name, err, err.Hint(), trigger(tt.denials))
		}
	}
}
