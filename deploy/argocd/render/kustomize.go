package render

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
}

// unreleased is the tag before the first release. The hook before the sync refuses it.
const unreleased = "unreleased"

// top is what a release changes: the kustomization that Argo CD builds.
func top(s *service) (map[string][]byte, error) {
	release := image{Repo: s.k.Image, Tag: unreleased}
	if s.o.Release != "" {
		release, _ = parseImage(s.o.Release) // was checked
	}
	text, err := encode(doc{
		"A release is a change of images below, and of nothing else:\n" +
			"  kustomize edit set image " + s.name + "=" + s.k.Image + ":1.2.0@sha256:…\n" +
			"sluice-argo render keeps it.", kustomization{
			Resources: []string{baseDir},
			Images:    []image{release.as(s.name)},
			// Replacements come after images, so the hooks see what was set above.
			Replacements: []replacement{{
				Source:  source{Kind: "Deployment", Name: s.name + "-canary", FieldPath: "spec.template.spec.containers.[name=" + s.name + "].image"},
				Targets: []target{{Select: selection{Kind: "Job"}, FieldPaths: []string{"spec.template.spec.containers.[name=hook].env.[name=SLUICE_IMAGE].value"}}},
			}},
		}.typed(),
	})
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"kustomization.yaml": text}
	files["README.md"], err = readme(s, "readme.tmpl")
	return files, err
}
