package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dagger/sluice/enginetest"
	"dagger/sluice/internal/dagger"
)

// module is one made with the usual arguments.
func module(t *testing.T) *Sluice {
	t.Helper()
	m, err := New(t.Context(), folder("source"), folder("tool"), nil, nil, nil, "", nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func folder(name string) *dagger.Directory {
	return dag.Directory().WithNewFile("name", name)
}

func file(name string) *dagger.File { return folder(name).File(name) }

func secret(name string) *dagger.Secret { return dag.SetSecret(name, "value of "+name) }

const (
	rollout    = `{"version":"v1.1.0","outcome":"rolled-back","verdict":"fail","trigger":"slo","reason":"slower","steps":[{"step":"gate","status":"failed","summary":"fail","seconds":3}]}`
	reproduced = `{"result":[],"steps":[{"step":"build","summary":"reproduced bit for bit"}]}`
	manifest   = `{"result":{"version":"v1.1.0","image":"sha256:00"},"steps":[{"step":"build","status":"done","seconds":1}]}`
)

// calls are all functions, each with what a person would give it.
var calls = map[string]struct {
	answers map[string]any
	call    func(context.Context, *Sluice) error
}{
	"command": {nil, func(ctx context.Context, m *Sluice) error {
		_, err := m.Command().ID(ctx)
		return err
	}},
	"build": {map[string]any{"entries": []string{"linux_amd64/", "linux_arm64/"}}, func(ctx context.Context, m *Sluice) error {
		d, err := m.Build(ctx, "v1.1.0", []string{"linux/arm64"})
		return sent(ctx, d, err)
	}},
	"strip-report": {nil, func(ctx context.Context, m *Sluice) error {
		_, err := m.StripReport(ctx, "v1.1.0", "text")
		return err
	}},
	"upx-test": {nil, func(ctx context.Context, m *Sluice) error {
		_, err := m.UpxTest(ctx, "v1.1.0", "json")
		return err
	}},
	"reproduce": {map[string]any{"stdout": reproduced}, func(ctx context.Context, m *Sluice) error {
		said, err := m.Reproduce(ctx, "v1.1.0")
		if err == nil && said != "reproduced bit for bit" {
			err = errors.New(said)
		}
		return err
	}},
	"sbom": {nil, func(ctx context.Context, m *Sluice) error {
		d, err := m.Sbom("v1.1.0")
		return sent(ctx, d, err)
	}},
	"bpf": {nil, func(ctx context.Context, m *Sluice) error {
		d, err := m.Bpf(ctx, nil)
		return sent(ctx, d, err)
	}},
	"bpf-check": {nil, func(ctx context.Context, m *Sluice) error {
		_, err := m.BpfCheck(ctx, file("mine.bpf.o"))
		return err
	}},
	"load-test": {nil, func(ctx context.Context, m *Sluice) error {
		_, err := m.LoadTest(ctx, nil)
		return err
	}},
	"kernels": {nil, func(ctx context.Context, m *Sluice) error {
		_, err := m.Kernels(ctx, "6.1")
		return err
	}},
	"image": {nil, func(ctx context.Context, m *Sluice) error {
		c, err := m.Image("v1.1.0", nil)
		return sent(ctx, c, err)
	}},
	"sign": {map[string]any{"contents": "sign: {key: keys/cosign.key, passphrase_env: WORD}"}, func(ctx context.Context, m *Sluice) error {
		d, err := m.Sign(ctx, "v1.1.0", secret("key"), secret("passphrase"), file("cosign.pub"), nil)
		return sent(ctx, d, err)
	}},
	"policy": {map[string]any{"contents": "sign: {keyless: {identity: me}}"}, func(ctx context.Context, m *Sluice) error {
		_, err := m.Policy(ctx, "v1.1.0", "text", nil, nil, nil, secret("identity"))
		return err
	}},
	"verify": {nil, func(ctx context.Context, m *Sluice) error {
		_, err := m.Verify(ctx, folder("out"), "v1.1.0", file("cosign.pub"))
		return err
	}},
	"publish": {map[string]any{"stdout": manifest}, func(ctx context.Context, m *Sluice) error {
		r, err := m.Publish(ctx, "v1.1.0", secret("key"), secret("passphrase"), file("cosign.pub"), nil, secret("registry"))
		if err == nil && r.Image != "sha256:00" {
			err = errors.New("image " + r.Image)
		}
		return err
	}},
	"lint": {nil, func(ctx context.Context, m *Sluice) error {
		_, err := m.Lint(ctx)
		return err
	}},
	"check-config": {nil, func(ctx context.Context, m *Sluice) error {
		_, err := m.CheckConfig(ctx)
		return err
	}},
	"test": {nil, func(ctx context.Context, m *Sluice) error {
		_, err := m.Test(ctx, []string{"./internal/gate"}, "TestA", true)
		return err
	}},
	"canary": {map[string]any{"exitCode": 1, "contents": rollout}, func(ctx context.Context, m *Sluice) error {
		r, err := m.Canary(ctx, "v1.0.0", "v1.1.0", folder("before"), []string{"SHOP_LATENCY=50ms"}, nil,
			"http://127.0.0.1:8080/", 200, nil, nil, nil, nil)
		if err == nil && (r.Verdict != "fail" || r.Outcome != "rolled-back" || r.Status != 1 || len(r.Steps) != 1) {
			err = errors.New("verdict " + r.Verdict + ", outcome " + r.Outcome)
		}
		return err
	}},
	"pipeline": {map[string]any{"contents": strings.Replace(rollout, "{", `{"result":{"version":"v1.1.0"},`, 1), "stdout": reproduced}, func(ctx context.Context, m *Sluice) error {
		r, err := m.Pipeline(ctx, "v1.1.0", "v0.0.0", nil, nil, "http://127.0.0.1:8080/", 200, secret("key"), secret("passphrase"), file("cosign.pub"), nil, secret("registry"))
		if err == nil && (len(r.Steps) != 3 || r.Steps[0].Summary != "reproduced bit for bit") {
			err = fmt.Errorf("steps %v", r.Steps)
		}
		return err
	}},
	"gate": {nil, func(ctx context.Context, m *Sluice) error {
		_, err := m.Gate(ctx, folder("out"), "v1.1.0", true)
		return err
	}},
	"rollback": {nil, func(ctx context.Context, m *Sluice) error {
		d, err := m.Rollback(folder("out"), "v1.0.0")
		return sent(ctx, d, err)
	}},
}

// sent asks for what a function returned, as the engine does.
func sent(ctx context.Context, v interface {
	ID(context.Context) (dagger.ID, error)
}, err error,
) error {
	if err != nil {
		return err
	}
	_, err = v.ID(ctx)
	return err
}

func TestEveryFunctionAsksWhatItsPlanSays(t *testing.T) {
	now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	defer func() { now = time.Now }()
	for name, tt := range calls {
		t.Run(name, func(t *testing.T) {
			enginetest.Session.Reset(nil)
			m := module(t)
			enginetest.Session.Reset(tt.answers)
			if err := tt.call(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			compare(t, filepath.Join("testdata", name+".txt"), enginetest.Session.Plan()+"\n")
		})
	}
}

func TestWhatIsNewIsChecked(t *testing.T) {
	enginetest.Session.Reset(nil)
	module(t)
	compare(t, filepath.Join("testdata", "new.txt"), enginetest.Session.Plan()+"\n")
}

func compare(t *testing.T, golden, got string) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the engine is asked something else than %s says (UPDATE=1 rewrites it):\n%s", golden, difference(string(want), got))
	}
}

// difference is the first line in which two texts differ.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return "- " + w[i] + "\n+ " + g[i]
		}
	}
	return "one is longer"
}
