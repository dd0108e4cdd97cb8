package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/sign"
)

// maker signs probes for others.
func maker(t *testing.T) (s *sign.Signer, public string) {
	t.Helper()
	key, public, err := sign.GenerateKey(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = sign.OpenSigner(key, nil); err != nil {
		t.Fatal(err)
	}
	return s, public
}

func TestAProbeOfSomebodyElse(t *testing.T) {
	ours, public := maker(t)
	theirs, _ := maker(t)
	mover, err := os.ReadFile("../../bpf/bind/mover_bpfel.o")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bundle := func(name string, by *sign.Signer, of []byte) string {
		t.Helper()
		b, err := by.Blob(t.Context(), of)
		if err != nil {
			t.Fatal(err)
		}
		return file(name, b)
	}
	missing, object := filepath.Join(dir, "missing"), file("probe.o", probe.Object())
	good := bundle("ours.json", ours, probe.Object())
	for name, tt := range map[string]struct {
		bpf     config.BPF
		key     string
		says    string // of the summary or the error
		refused bool
		fails   bool
	}{
		"the built-in one":                {config.BPF{}, "", "built-in probe, ", false, false},
		"a file that nobody signed":       {config.BPF{Object: object}, "", object + ", ", false, false},
		"a file that its maker signed":    {config.BPF{Object: object, Bundle: good}, public, object + ", ", false, false},
		"no such file":                    {config.BPF{Object: missing}, "", "reading probe object: ", false, true},
		"no eBPF object":                  {config.BPF{Object: file("text.o", []byte("text"))}, "", "not a usable eBPF object", false, true},
		"it does more than to look":       {config.BPF{Object: file("mover.o", mover)}, "", "the probe object breaks a rule: ", false, true},
		"no such signature":               {config.BPF{Object: object, Bundle: missing}, public, "reading the signature of the probe object: ", false, true},
		"the signature of somebody else":  {config.BPF{Object: object, Bundle: bundle("theirs.json", theirs, probe.Object())}, public, "verifying " + object, true, true},
		"the signature of something else": {config.BPF{Object: object, Bundle: bundle("mover.json", ours, mover)}, public, "verifying " + object, true, true},
		"nobody is named whose it may be": {config.BPF{Object: object, Bundle: good}, missing, "missing", false, true},
	} {
		s := &Object{Job: Job{Config: &config.Config{BPF: tt.bpf, Sign: config.Sign{PublicKey: tt.key}}, Out: t.TempDir(), Version: "v1.0.0"}}
		summary, err := s.Run(t.Context())
		var refused *RefusedError
		if (err != nil) != tt.fails || errors.As(err, &refused) != tt.refused || !strings.Contains(summary+errorText(err), tt.says) {
			t.Errorf("%s: %q %v, want %q", name, summary, err, tt.says)
		}
		if refused != nil && refused.Trigger != canary.Signature {
			t.Errorf("%s: the trigger is %q", name, refused.Trigger)
		}
		if err != nil {
			if _, statErr := os.Stat(bundlePath(s.file())); statErr == nil {
				t.Errorf("%s: a signature that does not hold was kept", name)
			}
			continue
		}
		kept, err := os.ReadFile(s.file())
		if err != nil || string(kept) != string(probe.Object()) || s.Spec == nil || Made(s) != any(s.Spec) {
			t.Errorf("%s: it was not kept: %v", name, err)
		}
		if _, err := os.Stat(bundlePath(s.file())); (err == nil) != (tt.bpf.Bundle != "") {
			t.Errorf("%s: beside it there is a signature: %v", name, err)
		}
	}
}
