// Package render writes the manifests of a service: what Argo CD builds and
// applies, and what somebody with more rights applies once.
//
// Rendering is a function of its arguments: it reads no file, asks no cluster and
// looks at no clock, so what is committed can be compared with what would be
// written today. Objects are made of the types of their API and written as YAML in
// a stable order. The names are those that the hooks and the target kubernetes go
// by; nothing here decides anything about a release.
package render

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/sluice-cd/sluice/internal/config"
)

// Options is what is not in a sluice.yaml.
type Options struct {
	// Only is Service or Cluster for one half of the files; empty for both.
	Only string
	// HookImage is the image of the hooks, as REPO:TAG@sha256:….
	HookImage string
	// ProbeImage is the image of sluice-probe, as REPO:TAG@sha256:….
	ProbeImage string
	// Release is the image of the service that is deployed first, as REPO:TAG@sha256:…. Empty: none, to be set
	// before the first sync with kustomize edit set image.
	Release string
	// Config is the sluice.yaml itself: the hooks read it.
	Config []byte
	// PublicKey is the key (PEM) that images have to be signed with, where it is no identity that signs.
	PublicKey []byte
	// TrustedRoot says who vouches for the identity of sign.keyless: Sigstore's trusted_root.json.
	TrustedRoot []byte
	// Rules are the Rego files of policy.dirs, by their paths relative to sluice.yaml.
	Rules map[string][]byte
	// InstanceLabel is the label by which Argo CD knows what it has applied, application.instanceLabelKey in its
	// settings; app.kubernetes.io/instance if empty.
	InstanceLabel string
	// Cgroup is where nodes have their version 2 control groups; /sys/fs/cgroup if empty.
	Cgroup string
	// Seccomp is the profile of the probe, a file below the kubelet's folder seccomp. Empty: that of the container
	// runtime until the daemon has put its own, stricter filter on itself.
	Seccomp string
}

// The two halves of the output: what a service has of its own, and what all
// services of a cluster share.
const (
	Service = "service"
	Cluster = "cluster"
)

// Folders of the output.
const (
	baseDir    = "base"       // what Argo CD applies, but for the release
	setupDir   = "setup"      // for the service, by hand: project, application, rights, settings
	probeDir   = "probe"      // once for the cluster: the daemons
	monitorDir = "monitoring" // once for the cluster: metrics, alerts, dashboard
)

// Render returns the files of the folder deploy.argocd.path, by their path in it:
// on top what a release changes, in base what Argo CD applies, in setup, probe
// and monitoring what is applied by hand. Errors are about cfg (*config.Error) or o.
func Render(cfg *config.Config, o Options) (map[string][]byte, error) {
	if err := o.check(cfg); err != nil {
		return nil, err
	}
	s := &service{cfg: cfg, o: o, name: cfg.Name, k: cfg.Deploy.Kubernetes, a: cfg.Deploy.ArgoCD}
	files := map[string][]byte{}
	for _, part := range s.parts() {
		more, err := part(s)
		if err != nil {
			return nil, err
		}
		maps.Copy(files, more)
	}
	return files, nil
}

// service is what everything is made of.
type service struct {
	cfg  *config.Config
	o    Options
	name string
	k    config.Kubernetes
	a    config.ArgoCD
}

func (s *service) parts() (parts []func(*service) (map[string][]byte, error)) {
	if s.o.Only != Cluster {
		parts = append(parts, top, base, setup)
	}
	if s.o.Only != Service {
		parts = append(parts, probe, monitoring)
	}
	return parts
}

// folders are those that the rendered files are in, but for the top.
func (o Options) folders() []string {
	switch o.Only {
	case Service:
		return []string{baseDir, setupDir}
	case Cluster:
		return []string{probeDir, monitorDir}
	}
	return []string{baseDir, setupDir, probeDir, monitorDir}
}

func (o Options) instanceLabel() string { return cmp.Or(o.InstanceLabel, instanceKey) }

// route reports whether traffic goes by an HTTPRoute.
func (s *service) route() bool { return s.k.Traffic == "httproute" }

// OptionError means that something is missing that is not in a sluice.yaml.
type OptionError struct{ Text, Advice string }

func (e *OptionError) Error() string { return e.Text }

// Hint says what to give.
func (e *OptionError) Hint() string { return e.Advice }

func (o Options) check(cfg *config.Config) error {
	var wrong []error
	if o.Only != "" && o.Only != Service && o.Only != Cluster {
		wrong = append(wrong, fmt.Errorf("%q is neither %s nor %s", o.Only, Service, Cluster))
	}
	if cfg.Deploy.Target != "kubernetes" {
		wrong = append(wrong, cfg.Complaint("deploy.target", "%s has no manifests: write target: kubernetes", cfg.Deploy.Target))
	}
	if o.Only != Cluster {
		wrong = append(wrong, o.checkService(cfg), checkImage("hooks", o.HookImage, "--hook-image"))
	}
	if o.Only != Service {
		wrong = append(wrong, checkImage("probe", o.ProbeImage, "--probe-image"))
	}
	return errors.Join(wrong...)
}

func checkImage(what, ref, flag string) error {
	_, err := parseImage(ref)
	if err == nil {
		return nil
	}
	return &OptionError{
		Text:   fmt.Sprintf("the image of the %s: %v", what, err),
		Advice: "give " + flag + " registry.example.com/sluice/NAME:1.0.0@sha256:…; what runs beside a release is pinned as the release is",
	}
}

func (o Options) checkService(cfg *config.Config) error {
	var wrong []error
	if cfg.Deploy.ArgoCD.Repository == "" {
		wrong = append(wrong, cfg.Complaint("deploy.argocd", "is missing: repository and path say where the manifests belong"))
	}
	if cfg.Deploy.Kubernetes.Namespace == cfg.Deploy.ArgoCD.Namespace {
		wrong = append(wrong, cfg.Complaint("deploy.kubernetes.namespace", "%s is that of Argo CD: what releases are judged by lies there, and may not be where a sync writes", cfg.Deploy.Kubernetes.Namespace))
	}
	if problems := validation.IsQualifiedName(o.instanceLabel()); len(problems) > 0 {
		wrong = append(wrong, &OptionError{Text: fmt.Sprintf("--instance-label %q is not the name of a label", o.InstanceLabel), Advice: strings.Join(problems, "; ")})
	}
	if o.Release != "" {
		if _, err := parseImage(o.Release); err != nil {
			wrong = append(wrong, fmt.Errorf("the image of the release: %w", err))
		}
	}
	switch identity := cfg.Sign.Keyless.Given(); {
	case identity && len(o.TrustedRoot) == 0:
		wrong = append(wrong, cfg.Complaint("sign.keyless.trusted_root", "is empty: nobody vouches for the identity"))
	case !identity && len(o.PublicKey) == 0:
		wrong = append(wrong, &OptionError{Text: "there is no public key to verify releases with", Advice: "set sign.public_key in sluice.yaml, or give --key cosign.pub"})
	}
	for _, name := range slices.Sorted(maps.Keys(o.Rules)) {
		if !ruleForm.MatchString(name) || path.Clean(name) != name || strings.HasPrefix(name, "../") || strings.Contains(name, folderMark) {
			wrong = append(wrong, cfg.Complaint("policy.dirs", "%s cannot be carried into a cluster: it has to be below the folder of sluice.yaml, of letters, digits, \"_\" (one at a time), \"-\" and \".\"", name))
		}
	}
	return errors.Join(wrong...)
}

var (
	ruleForm  = regexp.MustCompile(`^[A-Za-z0-9_][-A-Za-z0-9._]*(/[A-Za-z0-9_][-A-Za-z0-9._]*)*$`)
	imageForm = regexp.MustCompile(`^([a-zA-Z0-9.-]+(?::[0-9]+)?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?@(sha256:[0-9a-f]{64})$`)
)

// image is a reference taken apart, in the words of kustomize.
type image struct {
	Name   string `json:"name"`
	Repo   string `json:"newName,omitempty"`
	Tag    string `json:"newTag,omitempty"`
	Digest string `json:"digest,omitempty"`
}

func parseImage(ref string) (image, error) {
	m := imageForm.FindStringSubmatch(ref)
	if m == nil {
		return image{}, fmt.Errorf("%q is not a reference with a digest (REPO:TAG@sha256:…)", ref)
	}
	return image{Repo: m[1], Tag: m[2], Digest: m[3]}, nil
}

// as gives the image the name by which manifests call it.
func (i image) as(name string) image {
	i.Name = name
	return i
}

// String is the reference again.
func (i image) String() string {
	ref := i.Repo
	if i.Tag != "" {
		ref += ":" + i.Tag
	}
	return ref + "@" + i.Digest
}
