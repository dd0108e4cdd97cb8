package render

import (
	"maps"
	"slices"
	"strings"
)

// kustomization is the part of kustomize's file that is used here. kustomize
// itself as a library would be a hundred packages for these five fields.
type kustomization struct {
	APIVersion   string        `json:"apiVersion"`
	Kind         string        `json:"kind"`
	Resources    []string      `json:"resources"`
	Images       []image       `json:"images,omitempty"`
	Replacements []replacement `json:"replacements,omitempty"`
	ConfigMaps   []generator   `json:"configMapGenerator,omitempty"`
}

func (k kustomization) typed() kustomization {
	k.APIVersion, k.Kind = "kustomize.config.k8s.io/v1beta1", "Kustomization"
	return k
}

type replacement struct {
	Source  source   `json:"source"`
	Targets []target `json:"targets"`
}

type source struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	FieldPath string `json:"fieldPath"`
}

type target struct {
	Select     selection `json:"select"`
	FieldPaths []string  `json:"fieldPaths"`
}

type selection struct {
	Kind string `json:"kind"`
}

type generator struct {
	Name      string           `json:"name"`
	Namespace string           `json:"namespace,omitempty"`
	Files     []string         `json:"files"`
	Options   generatorOptions `json:"options"`
}

type generatorOptions struct {
	DisableNameSuffixHash bool              `json:"disableNameSuffixHash"`
	Labels                map[string]string `json:"labels,omitempty"`
	Annotations           map[string]string `json:"annotations,omitempty"`
}

// unreleased is the tag before the first release. The hook before the sync refuses it.
const unreleased = "unreleased"

// top is what a release changes, and the files that people write: the kustomization
// that Argo CD builds, sluice.yaml, the public key and rules.
func top(s *service) (map[string][]byte, error) {
	release := image{Repo: s.k.Image, Tag: unreleased}
	if s.o.Release != "" {
		release, _ = parseImage(s.o.Release) // was checked
	}
	files := map[string][]byte{"sluice.yaml": s.o.Config, "cosign.pub": s.o.PublicKey}
	maps.Copy(files, s.o.Rules)
	k := kustomization{
		Resources: []string{baseDir},
		Images:    []image{release.as(s.name)},
		// Replacements come after images, so the hooks see what was set above.
		Replacements: []replacement{{
			Source:  source{Kind: "Deployment", Name: s.name + "-canary", FieldPath: "spec.template.spec.containers.[name=" + s.name + "].image"},
			Targets: []target{{Select: selection{Kind: "Job"}, FieldPaths: []string{"spec.template.spec.containers.[name=hook].env.[name=SLUICE_IMAGE].value"}}},
		}},
		ConfigMaps: []generator{{
			Name: s.name + "-sluice", Namespace: s.k.Namespace,
			Options: generatorOptions{
				DisableNameSuffixHash: true,
				Labels:                s.labels("hook"),
				// A hook itself, because the first hook reads it before anything else is applied.
				Annotations: hookAnnotations("PreSync", "-1", "BeforeHookCreation"),
			},
		}},
	}
	for _, f := range s.mounted() {
		k.ConfigMaps[0].Files = append(k.ConfigMaps[0].Files, f.generated())
	}
	text, err := encode(doc{"A release is a change of images below, and of nothing else:\n" +
		"  kustomize edit set image " + s.name + "=" + s.k.Image + ":1.2.0@sha256:…\n" +
		"sluice-argo render keeps it.", k.typed()})
	if err != nil {
		return nil, err
	}
	files["kustomization.yaml"] = text
	files["README.md"], err = readme(s, "readme.tmpl")
	return files, err
}

// carried is a file that hooks find below /etc/sluice.
type carried struct {
	path string // there and here
	key  string // in the ConfigMap
}

func (c carried) generated() string {
	if c.key == c.path {
		return c.path
	}
	return c.key + "=" + c.path
}

func (s *service) mounted() []carried {
	list := []carried{{"sluice.yaml", "sluice.yaml"}, {"cosign.pub", "cosign.pub"}}
	for _, path := range slices.Sorted(maps.Keys(s.o.Rules)) {
		list = append(list, carried{path, strings.ReplaceAll(path, "/", "__")})
	}
	return list
}
