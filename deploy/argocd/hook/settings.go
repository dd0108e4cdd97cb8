package hook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/deploy/k8s"
	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/reference"
	"github.com/sluice-cd/sluice/internal/verdict"
)

// Settings are what a hook is told from outside: the user's file, the release,
// and where it is.
type Settings struct {
	Config       *config.Config
	PublicKey    string // path of the key that everything has to be signed with,
	TrustedRoot  string // or of the file that says who vouches for the identity of sign.keyless
	Git          string // folder with username and password of the git repository; may be absent
	Etcd         string // folder with ca.crt, tls.crt and tls.key for the ledger in etcd; may be absent
	Image        string // the release: a reference with a tag and a digest
	App          string // the Application
	AppNamespace string
	Holder       string // who holds the lock: the name of the pod, or a person
	Termination  string // file for the termination message; "": none
}

// Where pods of hooks find Secrets.
const (
	podGit  = "/etc/sluice-git"
	podEtcd = "/etc/sluice-etcd"
)

// told is what a pod of a hook finds in its environment.
func told() Settings {
	s := Settings{
		Git: podGit, Etcd: podEtcd,
		Image: os.Getenv("SLUICE_IMAGE"), App: os.Getenv("SLUICE_APP"), AppNamespace: os.Getenv("SLUICE_APP_NAMESPACE"),
		Holder: os.Getenv("POD_NAME"),
	}
	if s.Holder == "" {
		s.Holder = operatorPrefix + Operator() // no pod, so nobody may look whether it lives
	}
	return s
}

// Load reads the settings from a folder with sluice.yaml and cosign.pub or
// trusted_root.json, the rest from the environment.
func Load(dir string) (Settings, error) {
	s := told()
	s.PublicKey, s.TrustedRoot = filepath.Join(dir, "cosign.pub"), filepath.Join(dir, "trusted_root.json")
	s.Git, s.Etcd = dir+"-git", dir+"-etcd"
	file := filepath.Join(dir, "sluice.yaml")
	cfg, err := config.Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, &SettingsError{What: fmt.Sprintf("there is no %s", file)}
	}
	if err != nil {
		return s, err
	}
	s.Config = cfg
	s.App = cmp.Or(s.App, cfg.Name)
	s.AppNamespace = cmp.Or(s.AppNamespace, cfg.Deploy.ArgoCD.Namespace)
	return s, nil
}

// folderMark stands for a slash in the keys of the ConfigMap with the settings.
const folderMark = "__"

// Fetch reads the settings as a pod of a hook does: sluice.yaml, the key and rules
// from the ConfigMap NAMESPACE/NAME, which no commit can change and no pod
// can be made to find elsewhere; the rest from the environment. They are put
// below dir.
func Fetch(ctx context.Context, cfg *rest.Config, from, dir string) (Settings, error) {
	s := told()
	namespace, name, ok := strings.Cut(from, "/")
	if !ok || namespace == "" || name == "" {
		return s, &SettingsError{What: fmt.Sprintf("SLUICE_SETTINGS is %q, not the namespace/name of a ConfigMap", from)}
	}
	a, err := newAPI(cfg)
	if err != nil {
		return s, err
	}
	var m core.ConfigMap
	_, err = a.get(ctx, object{configMaps, namespace, name}, &m)
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return s, &SettingsError{What: err.Error(), Advice: applySetup}
	}
	if err != nil {
		return s, err
	}
	for key, text := range m.Data {
		file := filepath.Join(dir, strings.ReplaceAll(key, folderMark, "/"))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return s, fmt.Errorf("putting the settings down: %w", err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return s, fmt.Errorf("putting the settings down: %w", err)
		}
	}
	if m.Data["sluice.yaml"] == "" {
		return s, &SettingsError{What: fmt.Sprintf("ConfigMap %s has no sluice.yaml", from), Advice: applySetup}
	}
	s, err = Load(dir)
	s.Git, s.Etcd = podGit, podEtcd
	var wrong *config.Error
	if errors.As(err, &wrong) {
		wrong.File = "ConfigMap " + from + ": sluice.yaml" // not where it was put down
	}
	return s, err
}

// applySetup is what to do when something is missing that a platform team applies.
const applySetup = "kubectl apply -k setup, in the folder that sluice-argo render wrote"

// LoadFile reads the settings of an operator's command from the user's file.
func LoadFile(file string) (Settings, error) {
	cfg, err := config.Read(file)
	if err != nil {
		return Settings{}, err
	}
	return Settings{Config: cfg, App: cfg.Name, AppNamespace: cfg.Deploy.ArgoCD.Namespace}, nil
}

// SettingsError means that a hook was not told what it has to know.
type SettingsError struct{ What, Advice string }

func (e *SettingsError) Error() string { return "settings: " + e.What }

// Hint says what to do about it, or where settings come from.
func (e *SettingsError) Hint() string {
	if e.Advice != "" {
		return e.Advice
	}
	return "the Jobs that sluice-argo render writes set SLUICE_SETTINGS, SLUICE_IMAGE, SLUICE_APP and SLUICE_APP_NAMESPACE; render them again, and kubectl apply -k setup"
}

// check says what of the settings cannot be used.
func (s Settings) check() error {
	switch {
	case s.Config.Deploy.Target != "kubernetes":
		return &SettingsError{What: fmt.Sprintf("deploy.target is %s, hooks need kubernetes", s.Config.Deploy.Target)}
	case s.Image == "":
		return &SettingsError{What: "SLUICE_IMAGE is empty"}
	case digestOf(s.Image) == "":
		return &SettingsError{
			What:   fmt.Sprintf("image %s has no digest: a tag alone can mean another image tomorrow", s.Image),
			Advice: fmt.Sprintf("kustomize edit set image %s=REPOSITORY:1.2.3@sha256:…", s.service()),
		}
	}
	return nil
}

func (s Settings) service() string { return s.Config.Name }
func (s Settings) namespace() string {
	return cmp.Or(s.Config.Deploy.Kubernetes.Namespace, s.Config.Name)
}

// gate is the digest of the configuration under which verdicts hold.
func (s Settings) gateDigest() string { return verdict.Digest(s.Config.Deploy) }

func (s Settings) kubernetes() k8s.Service {
	k := s.Config.Deploy.Kubernetes
	return k8s.Service{
		Name: s.service(), Namespace: s.namespace(), Port: k.Port,
		Route: k.Traffic == "httproute", Header: k.Header != "", Ready: k.Ready.Std(),
	}
}

func digestOf(ref string) string  { return reference.Parse(ref).Digest }
func versionOf(ref string) string { return reference.Parse(ref).Tag }
func same(a, b string) bool       { return reference.Same(a, b) }
