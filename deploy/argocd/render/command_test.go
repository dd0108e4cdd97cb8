package render

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"

	"github.com/sluice-cd/sluice/internal/config"
)

// folder is an empty one with a sluice.yaml and a key of its own in src.
func folder(t *testing.T) (src, out string) {
	t.Helper()
	root := t.TempDir()
	src, out = filepath.Join(root, "src"), filepath.Join(root, "out")
	for _, name := range []string{"sluice.yaml", "cosign.pub"} {
		raw, err := os.ReadFile(filepath.Join(samples, "httproute", name))
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(src, name), string(raw))
	}
	return src, out
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func edit(t *testing.T, path string, oldnew ...string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(oldnew...).Replace(string(raw))
	if text == string(raw) {
		t.Fatalf("%s has none of %q", path, oldnew)
	}
	put(t, path, text)
}

// call runs the command and returns what it said.
func call(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := Command()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestTheSecondTimeNeedsOnlyTheFile(t *testing.T) {
	src, out := folder(t)
	args := []string{"-f", filepath.Join(src, "sluice.yaml"), "-o", out}
	first := append(args, "--hook-image", hookRef, "--probe-image", probeRef, "--release", shopRef, "--cgroup", "/sys/fs/cgroup/unified", "--seccomp", "sluice.json")
	if said, err := call(t, first...); err != nil || !strings.Contains(said, "kubectl apply -k "+filepath.Join(out, setupDir)) {
		t.Fatalf("said %q, %v", said, err)
	}
	for _, more := range [][]string{{"--check"}, nil, {"--check"}} {
		said, err := call(t, append(args, more...)...)
		if err != nil || strings.Contains(said, "changed") && !strings.Contains(said, "0 of them changed") {
			t.Errorf("again with %v: %q, %v", more, said, err)
		}
	}
	// A release, as kustomize writes it, is kept.
	kustomize(t, out, "edit", "set", "image", "shop=registry.example.com/team/shop:2.0.0@sha256:"+strings.Repeat("5", 64))
	if _, err := call(t, append(args, "--check")...); err != nil {
		t.Errorf("after a release: %v", err)
	}
	edit(t, filepath.Join(src, "sluice.yaml"), "replicas: 4", "replicas: 7")
	if _, err := call(t, args...); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(out, "kustomization.yaml"))
	if err != nil || !strings.Contains(string(raw), "newTag: 2.0.0") {
		t.Errorf("the release is gone: %v\n%s", err, raw)
	}
}

func TestWhatIsGivenOnceIsKept(t *testing.T) {
	src, out := folder(t)
	edit(t, filepath.Join(src, "sluice.yaml"), "sign:\n  public_key: cosign.pub\n", "")
	args := []string{"-f", filepath.Join(src, "sluice.yaml"), "-o", out}
	first := append(args, "--hook-image", hookRef, "--probe-image", probeRef, "--key", filepath.Join(src, "cosign.pub"), "--instance-label", "argocd.argoproj.io/instance")
	if _, err := call(t, first...); err != nil {
		t.Fatal(err)
	}
	for _, more := range [][]string{{"--check"}, nil, {"--check"}} {
		if said, err := call(t, append(args, more...)...); err != nil || more == nil && !strings.Contains(said, "0 of them changed") {
			t.Errorf("again with %v: %q, %v", more, said, err)
		}
	}
	for file, want := range map[string]string{"settings.yaml": "BEGIN PUBLIC KEY", "admission.yaml": "'argocd.argoproj.io/instance'"} {
		if text, err := os.ReadFile(filepath.Join(out, setupDir, file)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %s: %v", file, want, err)
		}
	}
}

func TestCheckSaysWhatIsNotAsItWas(t *testing.T) {
	src, out := folder(t)
	args := []string{"-f", filepath.Join(src, "sluice.yaml"), "-o", out}
	if _, err := call(t, append(args, "--hook-image", hookRef, "--probe-image", probeRef)...); err != nil {
		t.Fatal(err)
	}
	edit(t, filepath.Join(out, "base", "deployments.yaml"), "replicas: 4", "replicas: 5")
	edit(t, filepath.Join(src, "sluice.yaml"),
		"    traffic: httproute\n", "", "    gateway: infra/web\n", "", "    hostnames: [shop.example.com]\n", "", "    header: \"x-env: canary\"\n", "")
	if err := os.Remove(filepath.Join(out, "probe", "network.yaml")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(out, "base", "notes.yaml"), "# somebody's own\n")
	_, err := call(t, append(args, "--check")...)
	var stale *StaleError
	if !errors.As(err, &stale) || stale.Hint() == "" {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"base/deployments.yaml (differs)", "probe/network.yaml (missing)", "base/route.yaml (of another time)", "setup/settings.yaml (differs)"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "notes") {
		t.Errorf("%q is about somebody's own file", err)
	}
	if _, err := call(t, args...); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, append(args, "--check")...); err != nil {
		t.Error(err)
	}
	if exists(filepath.Join(out, "base", "route.yaml")) || !exists(filepath.Join(out, "base", "notes.yaml")) {
		t.Error("the wrong files were removed")
	}
}

func TestWhatTheCommandRefuses(t *testing.T) {
	images := []string{"--hook-image", hookRef, "--probe-image", probeRef}
	for name, tt := range map[string]struct {
		prepare func(t *testing.T, src, out string)
		args    []string
		want    string
		hint    string
	}{
		"no images": {nil, nil, `the image of the hooks: "" is not a reference with a digest`, "--hook-image"},
		"an image by tag": {
			nil,
			[]string{"--hook-image", "registry.example.com/a:1", "--probe-image", probeRef},
			`"registry.example.com/a:1" is not a reference with a digest (REPO:TAG@sha256:…)`, "--hook-image",
		},
		"a half that does not exist": {nil, append(images, "--only", "half"), `"half" is neither service nor cluster`, ""},
		"no key": {
			func(t *testing.T, src, _ string) {
				edit(t, filepath.Join(src, "sluice.yaml"), "sign:\n  public_key: cosign.pub\n", "")
			},
			images, "there is no public key to verify releases with", "--key",
		},
		"a key that is not there": {nil, append(images, "--key", "no.pub"), "reading the public key: open no.pub: no such file or directory", ""},
		"another target": {func(t *testing.T, src, _ string) {
			edit(t, filepath.Join(src, "sluice.yaml"), "target: kubernetes", "local: {listen: ':80'}")
		}, images, "sluice.yaml:29: deploy.target: local has no manifests: write target: kubernetes", ""},
		"no git repository": {func(t *testing.T, src, _ string) {
			edit(t, filepath.Join(src, "sluice.yaml"), "  argocd:\n    repository: https://git.example.com/team/shop.git\n    path: deploy/shop\n    revision: 1.*\n    secret: shop-git\n", "")
		}, images, "deploy.argocd: is missing: repository and path say where the manifests belong", ""},
		"the namespace of Argo CD": {func(t *testing.T, src, _ string) {
			edit(t, filepath.Join(src, "sluice.yaml"), "  kubernetes:\n", "  kubernetes:\n    namespace: argocd\n")
		}, images, "deploy.kubernetes.namespace: argocd is that of Argo CD", ""},
		"what is no label": {nil, append(images, "--instance-label", "it's"), `--instance-label "it's" is not the name of a label`, "alphanumeric"},
		"a release without digest": {func(t *testing.T, _, out string) {
			put(t, filepath.Join(out, "kustomization.yaml"), "images: [{name: shop, newTag: '3'}]\n")
		}, images, "the image shop has no digest", "kustomize edit set image shop="},
		"rules elsewhere": {
			func(t *testing.T, src, _ string) {
				put(t, filepath.Join(src, "..", "rules", "a.rego"), "package sluice.a\n")
				edit(t, filepath.Join(src, "sluice.yaml"), "policy:\n", "policy:\n  dirs: [../rules]\n")
			},
			images, "policy.dirs: ../rules/a.rego cannot be carried into a cluster", "",
		},
		"rules with a name that would not come out again": {
			func(t *testing.T, src, _ string) {
				put(t, filepath.Join(src, "rules", "a__b.rego"), "package sluice.a\n")
				edit(t, filepath.Join(src, "sluice.yaml"), "policy:\n", "policy:\n  dirs: [rules]\n")
			},
			images, "policy.dirs: rules/a__b.rego cannot be carried into a cluster", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			src, out := folder(t)
			if tt.prepare != nil {
				tt.prepare(t, src, out)
			}
			_, err := call(t, append([]string{"-f", filepath.Join(src, "sluice.yaml"), "-o", out}, tt.args...)...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got  %v\nwant %s", err, tt.want)
			}
			var hinted interface{ Hint() string }
			if errors.As(err, &hinted) != (tt.hint != "") || tt.hint != "" && !strings.Contains(hinted.Hint(), tt.hint) {
				t.Errorf("hint %v, want %q", hinted, tt.hint)
			}
			if exists(filepath.Join(out, "base")) {
				t.Error("something was written")
			}
		})
	}
}

func TestNoFile(t *testing.T) {
	_, err := call(t, "-f", filepath.Join(t.TempDir(), "sluice.yaml"))
	var missing *config.NotFoundError
	if !errors.As(err, &missing) {
		t.Errorf("got %v", err)
	}
}

func TestAnIdentityTravelsInPlaceOfAKey(t *testing.T) {
	src, out := folder(t)
	put(t, filepath.Join(src, "sigstore", "root.json"), `{"mediaType": "made up"}`)
	edit(t, filepath.Join(src, "sluice.yaml"), "  public_key: cosign.pub\n", "  keyless: {identity: jane@example.com, issuer: 'https://accounts.example.com', trusted_root: sigstore/root.json}\n")
	args := []string{"-f", filepath.Join(src, "sluice.yaml"), "-o", out, "--hook-image", hookRef, "--probe-image", probeRef}
	if _, err := call(t, append(args, "--key", filepath.Join(src, "cosign.pub"))...); err == nil || !strings.Contains(err.Error(), "--key is given, but sign.keyless") {
		t.Errorf("with a key as well: %v", err)
	}
	if _, err := call(t, args...); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(out, setupDir, "settings.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	data := find[core.ConfigMap](t, map[string][]byte{"settings": text}, "settings", "ConfigMap", "shop-shop-sluice").Data
	if data[rootFile] != `{"mediaType": "made up"}` || len(data) != 2 {
		t.Errorf("the settings are %v", data)
	}
	if err := os.Remove(filepath.Join(src, "sigstore", "root.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, args...); err == nil || !strings.Contains(err.Error(), "reading the trusted root") {
		t.Errorf("without the root: %v", err)
	}
}

func TestRulesTravel(t *testing.T) {
	src, out := folder(t)
	put(t, filepath.Join(src, "rules", "lib", "days.rego"), "package lib.days\n")
	put(t, filepath.Join(src, "rules", "freeze.rego"), "package sluice.freeze\n")
	put(t, filepath.Join(src, "rules", "README.md"), "text")
	edit(t, filepath.Join(src, "sluice.yaml"), "policy:\n", "policy:\n  dirs: [rules]\n")
	if _, err := call(t, "-f", filepath.Join(src, "sluice.yaml"), "-o", out, "--hook-image", hookRef, "--probe-image", probeRef); err != nil {
		t.Fatal(err)
	}
	for _, o := range built(t, filepath.Join(out, setupDir)) {
		if o.GetName() != "shop-shop-sluice" || o.GetKind() != "ConfigMap" {
			continue
		}
		data := o.Object["data"].(map[string]any)
		if data["rules__lib__days.rego"] != "package lib.days\n" || len(data) != 4 || o.GetNamespace() != "argocd" {
			t.Errorf("the settings in %s are %v", o.GetNamespace(), data)
		}
		if _, err := config.Parse([]byte(data[configFile].(string)), configFile); err != nil {
			t.Error(err)
		}
		return
	}
	t.Error("there are no settings")
}
