package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const digestA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// sbom is a CycloneDX document about the given digest with these components,
// each "name@version license".
func sbom(subject string, components ...string) json.RawMessage {
	list := []map[string]any{}
	for _, c := range components {
		name, license, _ := strings.Cut(c, " ")
		name, version, _ := strings.Cut(name, "@")
		component := map[string]any{"type": "library", "name": name, "version": version, "purl": "pkg:golang/" + name + "@" + version}
		if license != "" {
			component["licenses"] = []any{map[string]any{"license": map[string]any{"id": license}}}
		}
		list = append(list, component)
	}
	text, err := json.Marshal(map[string]any{
		"bomFormat": "CycloneDX", "specVersion": "1.6",
		"metadata":   map[string]any{"component": map[string]any{"type": "file", "name": "shop", "version": "sha256:" + subject}},
		"components": list,
	})
	if err != nil {
		panic(err)
	}
	return text
}

// good is a release that no rule objects to.
func good() Input {
	return Input{
		Release: Release{Name: "shop", Version: "v1.1.0", Running: "v1.0.0"},
		Artifacts: []Artifact{{
			Platform: "linux/amd64", Path: "bin/linux_amd64/shop", SHA256: digestA, SizeBytes: 100, BudgetBytes: 200,
			Signed: true, SBOM: sbom(digestA, "stdlib@1.26.3", "example.com/lib@v1.2.3 MIT"), SBOMSigned: true,
		}},
		Object: Object{Path: "bpf/probe.bpf.o", SHA256: digestA, Signed: true, SBOM: sbom(digestA), SBOMSigned: true},
		Image:  Image{Digest: "sha256:" + digestA, Signed: true},
	}
}

func TestEvaluate(t *testing.T) {
	denied := func(packages, licenses []any) map[string]any {
		return map[string]any{"denied": map[string]any{"packages": packages, "licenses": licenses}}
	}
	for name, tt := range map[string]struct {
		change func(*Input)
		data   map[string]any
		want   []string // rule and input
	}{
		"a complete release passes":         {},
		"the first release passes":          {change: func(in *Input) { in.Release.Running = "" }},
		"a release without an image passes": {change: func(in *Input) { in.Image = Image{} }},
		"a release without a budget passes": {change: func(in *Input) { in.Artifacts[0].BudgetBytes = 0 }},
		"a version without v passes":        {change: func(in *Input) { in.Release.Version = "1.1.0" }},
		"nothing at all is denied by everything that wants something": {
			change: func(in *Input) { *in = Input{} },
			want: []string{
				"empty_release artifacts", "empty_release object", "empty_sbom an entry without path",
				"missing_signature an entry without path", "missing_signature an entry without path", "version_semver release.version",
			},
		},
		"a denied name":            {data: denied([]any{"example.com/lib"}, nil), want: []string{"denied_package bin/linux_amd64/shop"}},
		"a denied pattern":         {data: denied([]any{"EXAMPLE.com/*"}, nil), want: []string{"denied_package bin/linux_amd64/shop"}},
		"another version is meant": {data: denied([]any{"pkg:golang/example.com/lib@v1.2.4"}, nil)},
		"a denied licence":         {data: denied(nil, []any{"mit"}), want: []string{"denied_license bin/linux_amd64/shop"}},
		"a list that is a word":    {data: map[string]any{"denied": map[string]any{"packages": "x"}}, want: []string{"denied_package data.denied.packages"}},
		"an unsigned artifact":     {change: func(in *Input) { in.Artifacts[0].Signed = false }, want: []string{"missing_signature bin/linux_amd64/shop"}},
		"an unsigned SBOM":         {change: func(in *Input) { in.Artifacts[0].SBOMSigned = false }, want: []string{"missing_signature bin/linux_amd64/shop"}},
		"an unsigned object":       {change: func(in *Input) { in.Object.Signed = false }, want: []string{"missing_signature bpf/probe.bpf.o"}},
		"an unsigned image":        {change: func(in *Input) { in.Image.Signed = false }, want: []string{"missing_signature sha256:" + digestA}},
		"an SBOM of another file": {
			change: func(in *Input) { in.Artifacts[0].SBOM = sbom(strings.Repeat("b", 64), "stdlib@1") },
			want:   []string{"foreign_sbom bin/linux_amd64/shop"},
		},
		"an SBOM without components": {change: func(in *Input) { in.Artifacts[0].SBOM = sbom(digestA) }, want: []string{"empty_sbom bin/linux_amd64/shop"}},
		"no SBOM":                    {change: func(in *Input) { in.Artifacts[0].SBOM = nil }, want: []string{"empty_sbom bin/linux_amd64/shop"}},
		"an SBOM that is a string": {
			change: func(in *Input) { in.Artifacts[0].SBOM = json.RawMessage(`"x"`) },
			want:   []string{"empty_sbom bin/linux_amd64/shop"},
		},
		"over budget":             {change: func(in *Input) { in.Artifacts[0].SizeBytes = 201 }, want: []string{"size_budget bin/linux_amd64/shop"}},
		"two numbers only":        {change: func(in *Input) { in.Release.Version = "v1.1" }, want: []string{"version_semver release.version"}},
		"the same version again":  {change: func(in *Input) { in.Release.Version = "1.0.0+b" }, want: []string{"version_newer release.version"}},
		"what runs has no SemVer": {change: func(in *Input) { in.Release.Running = "latest" }, want: []string{"version_newer release.version"}},
	} {
		t.Run(name, func(t *testing.T) {
			in := good()
			if tt.change != nil {
				tt.change(&in)
			}
			denials, err := Evaluate(t.Context(), in, Options{Data: tt.data})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range denials {
				got = append(got, d.Rule+" "+d.Input)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("denials (-want +got):\n%s\n%v", diff, denials)
			}
		})
	}
}

// manyComponents is an SBOM of n components, about 100 bytes each.
func manyComponents(n int) json.RawMessage {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("github.com/org%d/module%d@v1.%d.0 Apache-2.0", i%97, i, i))
	}
	return sbom(digestA, list...)
}

func BenchmarkLargeSBOM(b *testing.B) {
	in := good()
	in.Artifacts[0].SBOM = manyComponents(5000)
	opts := Options{Data: map[string]any{"denied": map[string]any{
		"packages": []any{"github.com/evil/one", "pkg:npm/left-pad", "github.com/worse/*", "pkg:golang/github.com/bad/*"},
		"licenses": []any{"AGPL-*", "SSPL-1.0", "BUSL-1.1"},
	}}}
	for b.Loop() {
		if denials, err := Evaluate(b.Context(), in, opts); err != nil || len(denials) != 0 {
			b.Fatal(denials, err)
		}
	}
}
