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
		if err := readYAML(filepath.Join(dir, i.file), &k); err != nil {
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
	var settings core.ConfigMap
	if err := readYAML(filepath.Join(dir, setupDir, "settings.yaml"), &settings); err != nil {
		return o, err
	}
	o.PublicKey = []byte(settings.Data[keyFile])
	var daemon apps.DaemonSet
	err = readYAML(filepath.Join(dir, probeDir, "daemonset.yaml"), &daemon)
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

// readYAML reads the last document of a file, nothing if there is no file.
func readYAML(path string, into any) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = yaml.Unmarshal(text[max(bytes.LastIndex(text, []byte("\n---\n")), 0):], into)
	}
	if err != nil {
		return fmt.Errorf("reading what was rendered before: %s: %w", path, err)
	}
	return nil
}
