package sbom

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func document(components ...string) []byte {
	return []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[` + strings.Join(components, ",") + `]}`)
}

func component(name, version, licence string) string {
	c := `{"type":"library","name":"` + name + `","version":"` + version + `"`
	if licence != "" {
		c += `,"licenses":[{"license":{"id":"` + licence + `"}}]`
	}
	return c + "}"
}

func TestDiff(t *testing.T) {
	for name, tt := range map[string]struct {
		old, now []byte
		want     []Change
	}{
		"nothing changed": {document(component("a", "v1", "MIT")), document(component("a", "v1", "MIT")), nil},
		"one came, one went": {
			document(component("b", "v1", "")), document(component("a", "v1", "MIT")),
			[]Change{{Name: "a", New: "v1", Licences: []string{"MIT"}}, {Name: "b", Old: "v1"}},
		},
		"another version": {
			document(component("a", "v1", "MIT")), document(component("a", "v2", "Apache-2.0")),
			[]Change{{Name: "a", Old: "v1", New: "v2", Licences: []string{"Apache-2.0"}}},
		},
		"one of two versions": {
			document(component("a", "v1", ""), component("a", "v2", "")), document(component("a", "v2", ""), component("a", "v3", "")),
			[]Change{{Name: "a", Old: "v1", New: "v3"}},
		},
		"nothing but additions":       {[]byte(`{"bomFormat":"CycloneDX"}`), document(component("a", "v1", "")), []Change{{Name: "a", New: "v1"}}},
		"the order does not say much": {document(component("a", "v1", ""), component("b", "v1", "")), document(component("b", "v1", ""), component("a", "v1", "")), nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Diff(tt.old, tt.now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestADiffOfSomethingElseIsAnError(t *testing.T) {
	for name, raw := range map[string]string{"no JSON": "hello", "another format": `{"spdxVersion":"SPDX-2.3"}`, "empty": ""} {
		t.Run(name, func(t *testing.T) {
			if _, err := Diff(document(), []byte(raw)); err == nil || !strings.Contains(err.Error(), "the new document") {
				t.Errorf("new: %v", err)
			}
			if _, err := Diff([]byte(raw), document()); err == nil || !strings.Contains(err.Error(), "the old document") {
				t.Errorf("old: %v", err)
			}
		})
	}
}
