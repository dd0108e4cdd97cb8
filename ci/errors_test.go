package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"dagger/sluice/enginetest"
)

func TestNewSaysWhatIsMissing(t *testing.T) {
	image := dag.Container().From("golang")
	for name, tt := range map[string]struct {
		answers map[string]any
		make    func() error
		want    string
	}{
		"an old engine":              {map[string]any{"version": "v0.19.0"}, nil, "use v0.21.8 or newer"},
		"an engine that is gone":     {map[string]any{"version": errors.New("gone")}, nil, "asking the engine"},
		"a source without sluice":    {map[string]any{"exists": false}, nil, "--source=."},
		"a source without a module":  {map[string]any{"glob": []string{}}, nil, "no go.mod"},
		"a source that is not there": {map[string]any{"glob": errors.New("no such folder")}, nil, "no such folder"},
		"two images": {nil, func() error {
			_, err := New(t.Context(), folder("a"), folder("b"), nil, image, file("base.tar"), "", nil, nil, "")
			return err
		}, "give one of them"},
		"a short commit": {nil, func() error {
			_, err := New(t.Context(), folder("a"), folder("b"), nil, nil, nil, "", nil, nil, "abc")
			return err
		}, "git rev-parse HEAD"},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.Session.Reset(tt.answers)
			if tt.make == nil {
				tt.make = func() error {
					_, err := New(t.Context(), folder("a"), folder("b"), nil, nil, nil, "", nil, nil, "")
					return err
				}
			}
			wants(t, tt.make(), tt.want)
		})
	}
}

func TestArgumentsAreRefusedBeforeAnythingRuns(t *testing.T) {
	enginetest.Session.Reset(nil)
	m := module(t)
	ctx := t.Context()
	for name, tt := range map[string]struct {
		call func() error
		want string
	}{
		"build of no version":    {func() error { _, err := m.Build(ctx, "v1", nil); return err }, "like v1.4.2"},
		"build for no platform":  {func() error { _, err := m.Build(ctx, "v1.0.0", []string{"arm"}); return err }, "known: linux/amd64"},
		"sbom of no version":     {func() error { _, err := m.Sbom("latest"); return err }, "like v1.4.2"},
		"image of no version":    {func() error { _, err := m.Image("latest", nil); return err }, "like v1.4.2"},
		"half a key":             {func() error { _, err := m.Sign(ctx, "v1.0.0", secret("k"), nil, nil, nil); return err }, "--passphrase is missing"},
		"half a key to publish":  {func() error { _, err := m.Publish(ctx, "v1.0.0", nil, secret("p"), nil, nil, nil); return err }, "--key is missing"},
		"verify of no version":   {func() error { _, err := m.Verify(ctx, folder("out"), "1", nil); return err }, "like v1.4.2"},
		"gate of no version":     {func() error { _, err := m.Gate(ctx, folder("out"), "1", false); return err }, "like v1.4.2"},
		"rollback to no version": {func() error { _, err := m.Rollback(folder("out"), "before"); return err }, "like v1.4.2"},
		"a form that is none":    {func() error { _, err := m.Policy(ctx, "v1.0.0", "xml", nil, nil, nil, nil); return err }, "known: text, json"},
		"a canary of itself": {func() error {
			_, err := m.Canary(ctx, "v1.0.0", "v1.0.0", nil, nil, nil, "http://a/", 1, nil, nil, nil, nil)
			return err
		}, "two versions"},
		"a timeout that is none": {func() error {
			_, err := m.Sync(ctx, "shop", "https://a", secret("t"), "", "", "soon", nil, nil)
			return err
		}, "write 10m or 90s"},
		"a server without scheme": {func() error { _, err := m.Sync(ctx, "shop", "a", secret("t"), "", "", "1m", nil, nil); return err }, "https://argocd.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.Session.Reset(nil)
			wants(t, tt.call(), tt.want)
			if plan := enginetest.Session.Plan(); strings.Contains(plan, "withExec") {
				t.Errorf("something was run:\n%s", plan)
			}
		})
	}
}

func TestWhoSignsIsWhoSluiceYAMLSays(t *testing.T) {
	const keyed, keyless = "sign: {key: keys/cosign.key}", "sign: {keyless: {identity: me}}"
	for name, tt := range map[string]struct {
		config string
		call   func(context.Context, *Sluice) error
		want   string
	}{
		"a key that stays at home": {keyed, func(ctx context.Context, m *Sluice) error {
			_, err := m.Policy(ctx, "v1.0.0", "text", nil, nil, nil, nil)
			return err
		}, "--key=file:keys/cosign.key"},
		"an identity without a token": {keyless, func(ctx context.Context, m *Sluice) error {
			_, err := m.Publish(ctx, "v1.0.0", nil, nil, nil, nil, nil)
			return err
		}, "--identity-token=env:SIGSTORE_ID_TOKEN"},
		"a key for an identity": {keyless, func(ctx context.Context, m *Sluice) error {
			_, err := m.Sign(ctx, "v1.0.0", secret("k"), secret("p"), file("cosign.pub"), nil)
			return err
		}, "in the place of a key"},
		"a token that nobody asked for": {"", func(ctx context.Context, m *Sluice) error {
			_, err := m.Canary(ctx, "v1.0.0", "v1.1.0", nil, nil, nil, "http://a/", 1, nil, nil, nil, secret("t"))
			return err
		}, "is for sign.keyless"},
		"a file that cannot be read": {"sign: [", func(ctx context.Context, m *Sluice) error {
			_, err := m.Policy(ctx, "v1.0.0", "text", nil, nil, nil, nil)
			return err
		}, "reading sluice.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.Session.Reset(nil)
			m := module(t)
			enginetest.Session.Reset(map[string]any{"contents": tt.config})
			wants(t, tt.call(t.Context(), m), tt.want)
			if plan := enginetest.Session.Plan(); strings.Contains(plan, "withExec") {
				t.Errorf("something was run:\n%s", plan)
			}
		})
	}
}

func wants(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want it to say %q", err, want)
	}
}
