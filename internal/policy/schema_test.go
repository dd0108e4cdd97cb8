package policy

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/policies"
)

type schema struct {
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
}

// fields lists the properties as paths, such as "artifacts.signed".
func (s schema) fields(prefix string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		all = append(all, prefix+name)
		all = append(all, p.fields(prefix+name+".")...)
		if p.Items != nil {
			all = append(all, p.Items.fields(prefix+name+".")...)
		}
	}
	return all
}

func goFields(t reflect.Type, prefix string) []string {
	var all []string
	for i := range t.NumField() {
		name := prefix + t.Field(i).Tag.Get("json")
		all = append(all, name)
		typ := t.Field(i).Type
		if typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() == reflect.Struct {
			all = append(all, goFields(typ, name+".")...)
		}
	}
	slices.Sort(all)
	return all
}

// TestSchemaIsTheInput holds the schema, which makes misspelt fields an error,
// to the type that is evaluated, and the README to both.
func TestSchemaIsTheInput(t *testing.T) {
	text, err := fs.ReadFile(policies.FS, "input.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	got := s.fields("")
	slices.Sort(got)
	want := goFields(reflect.TypeFor[Input](), "")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields (-Input +schema):\n%s", diff)
	}
	readme, err := os.ReadFile("../../policies/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range want {
		name := strings.Replace(field, "artifacts.", "artifacts[].", 1)
		if !strings.Contains(string(readme), "`"+name+"`") {
			t.Errorf("policies/README.md does not describe `%s`", name)
		}
	}
}

func TestEveryBuiltinRuleIsAsked(t *testing.T) {
	set, err := load(nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range set.rules {
		got = append(got, r.name)
	}
	want := []string{
		"denied_license", "denied_package", "empty_release", "empty_sbom", "foreign_sbom", "missing_signature",
		"size_budget", "version_newer", "version_semver",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}
