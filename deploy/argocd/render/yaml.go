package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const header = "# Written by sluice-argo render. Change sluice.yaml and render again; changes made here are lost.\n"

// file is a YAML file of several documents.
type file struct {
	name string
	docs []doc
}

// doc is an object, and what a reader should know about it.
type doc struct {
	comment string
	object  any
}

// write returns the files by their name in a folder, and the kustomization that lists them.
func write(dir string, k kustomization, files ...file) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, f := range files {
		text, err := encode(f.docs...)
		if err != nil {
			return nil, fmt.Errorf("writing %s/%s: %w", dir, f.name, err)
		}
		out[dir+"/"+f.name] = text
		k.Resources = append(k.Resources, f.name)
	}
	text, err := encode(doc{"", k.typed()})
	if err != nil {
		return nil, fmt.Errorf("writing the kustomization of %s: %w", dir, err)
	}
	out[dir+"/kustomization.yaml"] = text
	return out, nil
}

// encode writes documents without what says nothing: status, null, empty sections.
func encode(docs ...doc) ([]byte, error) {
	out := bytes.NewBufferString(header)
	for i, d := range docs {
		raw, err := json.Marshal(d.object)
		if err != nil {
			return nil, err
		}
		var tree map[string]any
		if err := json.Unmarshal(raw, &tree); err != nil {
			return nil, err
		}
		if tree["kind"] != "Kustomization" {
			delete(tree, "status")
		}
		prune(tree, "")
		text, err := yaml.Marshal(tree)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		for line := range strings.Lines(d.comment) {
			out.WriteString("# " + strings.TrimRight(line, "\n") + "\n")
		}
		out.Write(text)
	}
	return out.Bytes(), nil
}

// meaningful are sections that say something though they are empty.
var meaningful = map[string]bool{"emptyDir": true, "podSelector": true, "namespaceSelector": true, "clusterResourceWhitelist": true, "egress": true}

// prune removes null and empty sections from a tree, and sections that become empty by that.
func prune(tree map[string]any, in string) {
	for key, value := range tree {
		switch v := value.(type) {
		case nil:
			delete(tree, key)
		case map[string]any:
			prune(v, key)
			if len(v) == 0 && !meaningful[key] {
				delete(tree, key)
			}
		case []any:
			for _, item := range v {
				if m, ok := item.(map[string]any); ok {
					prune(m, key)
				}
			}
			if len(v) == 0 && !meaningful[key] {
				delete(tree, key)
			}
		case string:
			if v == "" && in != "data" && key != "value" && key != "group" {
				delete(tree, key)
			}
		}
	}
}

// meta is the metadata of an object of the service.
func (s *service) meta(name, component string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.k.Namespace, Labels: s.labels(component)}
}

func (s *service) labels(component string) map[string]string {
	l := map[string]string{"app.kubernetes.io/managed-by": "sluice", "app.kubernetes.io/part-of": s.name}
	if component != "" {
		l["app.kubernetes.io/component"] = component
	}
	return l
}

// wave sets the wave of Argo CD in which an object is applied.
func wave(m metav1.ObjectMeta, n string) metav1.ObjectMeta {
	m.Annotations = map[string]string{"argocd.argoproj.io/sync-wave": n}
	return m
}

func kind(apiVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
}

func ptr[T any](v T) *T { return &v }
