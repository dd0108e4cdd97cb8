package hook

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/sign/signtest"
)

func TestSettingsComeFromWhereNoCommitReaches(t *testing.T) {
	w := newYard(t, "")
	ns := w.s.namespace()
	from := object{configMaps, ns + "-argocd", ns + "-shop-sluice"}
	w.patch(from, map[string]any{"data": map[string]string{"rules__lib__days.rego": "package lib.days\n"}})
	dir := t.TempDir()
	s, err := Fetch(t.Context(), w.cfg, from.namespace+"/"+from.name, dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.gateDigest() != w.s.gateDigest() || s.namespace() != ns || s.Image != w.s.Image || s.Holder != "shop-gate-1" || s.Git != "/etc/sluice-git" {
		t.Errorf("settings %+v", s)
	}
	for file, want := range map[string]string{s.PublicKey: publicKey, filepath.Join(dir, "rules", "lib", "days.rego"): "package lib.days\n"} {
		if raw, err := os.ReadFile(file); err != nil || string(raw) != want {
			t.Errorf("%s holds %q, %v", file, raw, err)
		}
	}
	for name, tt := range map[string]struct{ from, says string }{
		"nothing named":                {"", `SLUICE_SETTINGS is "", not the namespace/name of a ConfigMap`},
		"no namespace":                 {"shop", `SLUICE_SETTINGS is "shop"`},
		"one that is not there":        {ns + "/shop-verdict", "not found"},
		"one that somebody else wrote": {ns + "/mine", "forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Fetch(t.Context(), w.cfg, tt.from, filepath.Join(dir, "empty"))
			var settings *SettingsError
			if !errors.As(err, &settings) || settings.Hint() == "" || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestWhatIsWrongWithSettingsIsSaidOfTheConfigMap(t *testing.T) {
	w := newYard(t, "")
	from := object{configMaps, w.s.namespace() + "-argocd", w.s.namespace() + "-shop-sluice"}
	w.patch(from, map[string]any{"data": map[string]string{"sluice.yaml": "name: shop\ndeploy: {canary: {block: fast}}\n"}})
	_, err := Fetch(t.Context(), w.cfg, from.namespace+"/"+from.name, t.TempDir())
	place := "ConfigMap " + from.namespace + "/" + from.name
	if err == nil || !strings.Contains(err.Error(), place+": sluice.yaml:2: deploy.canary.block") {
		t.Errorf("got %v", err)
	}
	w.patch(from, map[string]any{"data": map[string]any{"sluice.yaml": nil}})
	if _, err := Fetch(t.Context(), w.cfg, from.namespace+"/"+from.name, t.TempDir()); err == nil || !strings.Contains(err.Error(), place+" has no sluice.yaml") {
		t.Errorf("without sluice.yaml: %v", err)
	}
}

func TestWhoRenewsTheLockHasHeldItSinceHeTookIt(t *testing.T) {
	l := &lock{h: &hook{now: time.Now, Settings: Settings{Config: &config.Config{Name: "shop"}}}, holder: "shop-gate-1"}
	taken := l.written(nil)
	time.Sleep(time.Millisecond)
	if renewed := l.written(taken); !renewed.Spec.AcquireTime.Equal(taken.Spec.AcquireTime) || renewed.Spec.RenewTime.Equal(taken.Spec.RenewTime) {
		t.Errorf("renewed: %+v", renewed.Spec)
	}
	next := &lock{h: l.h, holder: "shop-gate-2"}
	if over := next.written(taken); over.Spec.AcquireTime.Equal(taken.Spec.AcquireTime) {
		t.Error("who takes it over has held it as long as the one before")
	}
}

func TestWhoIsNoPodHoldsTheLockAsAPerson(t *testing.T) {
	t.Setenv("POD_NAME", "")
	if s := told(); !isOperator(s.Holder) || !strings.Contains(s.Holder, "@") {
		t.Errorf("the holder is %q", s.Holder)
	}
	t.Setenv("POD_NAME", "shop-gate-1")
	if s := told(); s.Holder != "shop-gate-1" {
		t.Errorf("the holder is %q", s.Holder)
	}
}

func TestWhatMayRunIsNotedAsFarAsItIsKnown(t *testing.T) {
	w := newYard(t, "")
	noted := func() map[string]string {
		var m core.ConfigMap
		if _, err := w.admin.get(t.Context(), object{configMaps, w.s.namespace(), "shop-admitted"}, &m); err != nil {
			t.Fatal(err)
		}
		return m.Data
	}
	bad, good := digestOf(w.s.Image), digestOf(ref("1.0.0"))
	w.want("presync", 0)
	if n := noted(); n["admitted"] != bad || n["passed"] != "" {
		t.Errorf("after PreSync %v", n)
	}
	w.set(func() { w.behave = failing })
	w.want("sync", 1)
	w.want("syncfail", 0)
	if n := noted(); n["passed"] != "" {
		t.Errorf("after a release that failed %v", n)
	}
	w.s.Image = ref("1.0.0")
	w.sync()
	w.want("presync", 0)
	w.want("sync", 0)
	if n := noted(); n["admitted"] != good || n["passed"] != good {
		t.Errorf("after the way back %v", n)
	}
	t.Run("not without the setup", func(t *testing.T) {
		w.t = t
		if err := w.admin.Resource(configMaps).Namespace(w.s.namespace()).Delete(t.Context(), "shop-admitted", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		w.want("presync", exitUsage)
		w.said("error", "kubectl apply -k setup")
	})
}

func TestAGateThatIsToldOfAnotherImageMeasuresNothing(t *testing.T) {
	w := newYard(t, "")
	w.s.Image = ref("1.2.0")
	if _, err := w.run("sync"); err == nil || !strings.Contains(err.Error(), "the canary Deployment has the image "+ref("1.1.0")+", not the release "+ref("1.2.0")) {
		t.Errorf("got %v", err)
	}
	if len(w.records()) != 0 || w.pods("canary") != 0 {
		t.Error("something was recorded or started")
	}
}

func TestAnIdentityMaySignInPlaceOfAKey(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "sluice.yaml"), `
name: shop
build: {main: ./app}
service: {port: 8080}
publish: {registry: registry.example.com/team/shop}
sign: {keyless: {identity: jane@example.com, issuer: "https://accounts.example.com", trusted_root: sigstore/root.json}}
deploy: {target: kubernetes}
`)
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	h := &hook{Settings: s}
	var missing *SettingsError
	if _, _, err := h.admitted(t.Context(), ""); !errors.As(err, &missing) || !strings.Contains(err.Error(), "trusted_root.json") || !strings.Contains(missing.Hint(), "kubectl apply -k setup") {
		t.Errorf("without a root: %v", err)
	}
	write(t, filepath.Join(dir, "trusted_root.json"), string(signtest.New(t).TrustedRoot()))
	if _, err := h.verifier(); err != nil {
		t.Error(err)
	}
	write(t, filepath.Join(dir, "trusted_root.json"), "{}")
	if _, err := h.verifier(); err == nil || !strings.Contains(err.Error(), "trusted root") {
		t.Errorf("with a root that names nobody: %v", err)
	}
}
