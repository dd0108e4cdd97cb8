package render

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	admission "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/sluice-cd/sluice/internal/config"
)

// compare lists the files of a folder that are not as they would be written, by
// name and with the reason.
func compare(dir string, files map[string][]byte, folders []string) ([]string, error) {
	var stale []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		is, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			stale = append(stale, name+" (missing)")
		case err != nil:
			return nil, fmt.Errorf("reading what was rendered before: %w", err)
		case !same(name, is, files[name]):
			stale = append(stale, name+" (differs)")
		}
	}
	left, err := leftovers(dir, files, folders)
	for _, name := range left {
		stale = append(stale, name+" (of another time)")
	}
	return stale, err
}

// same compares bytes, but of the file that kustomize edits what it means.
func same(name string, a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var left, right any
	return name == "kustomization.yaml" && yaml.Unmarshal(a, &left) == nil && yaml.Unmarshal(b, &right) == nil && reflect.DeepEqual(left, right)
}

// leftovers are files that were rendered once and would not be any more.
func leftovers(dir string, files map[string][]byte, folders []string) (left []string, err error) {
	for _, folder := range folders {
		entries, err := os.ReadDir(filepath.Join(dir, folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("looking for what was rendered before: %w", err)
		}
		for _, e := range entries {
			name := folder + "/" + e.Name()
			if _, ok := files[name]; ok || e.IsDir() {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return nil, fmt.Errorf("looking for what was rendered before: %w", err)
			}
			if written(text) {
				left = append(left, name)
			}
		}
	}
	return left, nil
}

// update makes the folder what was rendered. Files that are right are left alone.
func update(dir string, files map[string][]byte, stale []string) error {
	for _, entry := range stale {
		name, _, _ := strings.Cut(entry, " (")
		path := filepath.Join(dir, filepath.FromSlash(name))
		text, ok := files[name]
		if !ok {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("removing what was rendered before: %w", err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("writing manifests: %w", err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return fmt.Errorf("writing manifests: %w", err)
		}
	}
	return nil
}

// recall reads from what was rendered before what sluice.yaml does not say: the
// images, and how nodes are.
func recall(dir string, cfg *config.Config) (o Options, err error) {
	for _, i := range []struct {
		file, name string
		into       *string
	}{
		{"kustomization.yaml", cfg.Name, &o.Release},
		{baseDir + "/kustomization.yaml", hookImage, &o.HookImage},
		{probeDir + "/kustomization.yaml", probeName, &o.ProbeImage},
	} {
		var k kustomization
		if err := readYAML(filepath.Join(dir, i.file), "", &k); err != nil {
			return o, err
		}
		for _, image := range k.Images {
			switch {
			case image.Name != i.name || image.Tag == unreleased:
			case image.Digest == "":
				return o, &OptionError{
					Text:   fmt.Sprintf("%s: the image %s has no digest, and may be another one tomorrow", filepath.Join(dir, i.file), i.name),
					Advice: fmt.Sprintf("kustomize edit set image %s=REPO:TAG@sha256:…", i.name),
				}
			default:
				image.Repo = cmp.Or(image.Repo, cfg.Deploy.Kubernetes.Image)
				*i.into = image.String()
			}
		}
	}
	if err := o.recallSetup(dir, cfg); err != nil {
		return o, err
	}
	var daemon apps.DaemonSet
	err = readYAML(filepath.Join(dir, probeDir, "daemonset.yaml"), "DaemonSet "+probeName, &daemon)
	if p := daemon.Spec.Template.Spec.SecurityContext; p != nil && p.SeccompProfile != nil && p.SeccompProfile.LocalhostProfile != nil {
		o.Seccomp = *p.SeccompProfile.LocalhostProfile
	}
	for _, v := range daemon.Spec.Template.Spec.Volumes {
		if v.Name == "cgroup" && v.HostPath != nil {
			o.Cgroup = v.HostPath.Path
		}
	}
	return o, err
}

// recallSetup reads what was said of Argo CD, and the key.
func (o *Options) recallSetup(dir string, cfg *config.Config) error {
	s := service{name: cfg.Name, k: cfg.Deploy.Kubernetes}
	var settings core.ConfigMap
	if err := readYAML(filepath.Join(dir, setupDir, "settings.yaml"), "ConfigMap "+s.settingsName(), &settings); err != nil {
		return err
	}
	o.PublicKey = []byte(settings.Data[keyFile])
	var sync admission.ValidatingAdmissionPolicy
	if err := readYAML(filepath.Join(dir, setupDir, "admission.yaml"), "ValidatingAdmissionPolicy "+s.policyName("sync"), &sync); err != nil {
		return err
	}
	for _, v := range sync.Spec.Variables {
		if v.Name == keyVariable {
			o.InstanceLabel = strings.Trim(v.Expression, "'") // a label has no quote in it
		}
	}
	return nil
}

// readYAML reads a document of a file: the one of this kind and name, or the first
// if what is empty; nothing if there is none.
func readYAML(path, what string, into any) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		var head struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err == nil {
			err = yaml.Unmarshal(doc, &head)
		}
		if err == nil && (what == "" || head.Kind+" "+head.Metadata.Name == what) {
			err = yaml.Unmarshal(doc, into)
			break
		}
	}
	if err != nil {
		return fmt.Errorf("reading what was rendered before: %s: %w", path, err)
	}
	return nil
}
