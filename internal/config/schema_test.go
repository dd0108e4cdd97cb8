package config

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"
)

const schemaFile = "../../docs/sluice.schema.json"

// TestSchema generates the schema and compares it with the committed one. It is generated here, and not by the
// command, because the descriptions are the comments of the fields, which only the source has.
func TestSchema(t *testing.T) {
	got, err := json.MarshalIndent(generate(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(schemaFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/sluice.schema.json is out of date (UPDATE=1 rewrites it):\n%s", diff)
	}
}

func TestEveryFieldIsDocumented(t *testing.T) {
	for name, doc := range comments(t) {
		if strings.TrimSpace(doc) == "" {
			t.Errorf("%s has no comment", name)
		}
	}
}

// generate reflects Config and adds what the tags and comments of the fields say.
func generate(t *testing.T) *jsonschema.Schema {
	r := &jsonschema.Reflector{Anonymous: true, DoNotReference: true, ExpandedStruct: true, RequiredFromJSONSchemaTags: true, Mapper: leafSchema}
	s := r.Reflect(&Config{})
	s.Title = "sluice.yaml"
	s.Description = "Configuration of Sluice: one service, from source to a promoted or rolled-back release."
	annotate(s, reflect.TypeFor[Config](), comments(t))
	return s
}

func leafSchema(t reflect.Type) *jsonschema.Schema {
	text := func(pattern string, examples ...any) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: pattern, Examples: examples}
	}
	switch t {
	case reflect.TypeFor[Duration]():
		return text(durationPattern, "250ms", "5s", "2m")
	case reflect.TypeFor[Size]():
		return text(sizePattern, "512KiB", "20MiB")
	case reflect.TypeFor[Address]():
		return text(addressPattern, "127.0.0.1:8080", ":8080")
	case reflect.TypeFor[Quantity]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "string", Pattern: quantityPattern}, {Type: "number", Minimum: "0"}}, Examples: []any{"100m", "64Mi", 2}}
	case reflect.TypeFor[Ratio]():
		number := &jsonschema.Schema{Type: "number", Minimum: "0", Maximum: "1"}
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "string", Pattern: ratioPattern}, number}, Examples: []any{"10%", 0.1}}
	}
	return nil
}

// annotate copies the rules and comments of t's fields into its schema.
func annotate(s *jsonschema.Schema, t reflect.Type, docs map[string]string) {
	s.Required = nil
	for f := range fields(t) {
		name := fieldName(f)
		if name == "" {
			continue
		}
		p, _ := s.Properties.Get(name)
		p.Description = docs[t.Name()+"."+f.Name] + bounds(f.Tag)
		inner := f.Type
		if inner.Kind() == reflect.Slice && inner.Elem().Kind() == reflect.Struct {
			annotate(p.Items, inner.Elem(), docs)
		} else if inner.Kind() == reflect.Struct && !isLeaf(reflect.Zero(inner)) {
			annotate(p, inner, docs)
		}
		switch field, value, conditional := condition(f.Tag.Get("optional")); {
		case conditional && sectionNeeds(f.Type):
			other, _ := fieldByName(t, field)
			s.AllOf = append(s.AllOf, onlyIf(field, value, defaultOf(other) == value, name))
		case needed(f):
			s.Required = append(s.Required, name)
		}
		p.Default = defaultOf(f)
		if enum := f.Tag.Get("enum"); enum != "" {
			for _, v := range strings.Split(enum, ",") {
				p.Enum = append(p.Enum, v)
			}
		}
		if inner.Kind() == reflect.Int || inner.Kind() == reflect.Float64 && p.Type == "number" {
			p.Minimum, p.Maximum = json.Number(f.Tag.Get("min")), json.Number(f.Tag.Get("max"))
		}
	}
}

// needed reports whether a field, or one inside its section, must be there.
func needed(f reflect.StructField) bool {
	if _, ok := f.Tag.Lookup("required"); ok {
		return true
	}
	_, _, conditional := condition(f.Tag.Get("optional")) // a condition holds for one value at least, and so does the need
	return f.Type.Kind() == reflect.Struct && !isLeaf(reflect.Zero(f.Type)) && (f.Tag.Get("optional") == "" || conditional) && sectionNeeds(f.Type)
}

// sectionNeeds reports whether a field of the section must be there.
func sectionNeeds(t reflect.Type) bool {
	for inner := range fields(t) {
		if needed(inner) {
			return true
		}
	}
	return false
}

// onlyIf demands the section name unless field has another value than this one, which is also meant by leaving it
// out if standard.
func onlyIf(field, value string, standard bool, name string) *jsonschema.Schema {
	other := &jsonschema.Schema{Properties: jsonschema.NewProperties()}
	other.Properties.Set(field, &jsonschema.Schema{Not: &jsonschema.Schema{Enum: []any{value}}})
	if standard {
		other.Required = []string{field}
	}
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Required: []string{name}}, other}}
}

func defaultOf(f reflect.StructField) any {
	text, ok := f.Tag.Lookup("default")
	switch {
	case !ok:
		return nil
	case f.Type.Kind() == reflect.Slice:
		return strings.Split(text, ",")
	case f.Type.Kind() == reflect.Int || f.Type == reflect.TypeFor[float64]():
		return json.Number(text)
	}
	return text
}

func bounds(tag reflect.StructTag) string {
	low, high := tag.Get("min"), tag.Get("max")
	switch {
	case low != "" && high != "":
		return " From " + low + " to " + high + "."
	case low != "":
		return " At least " + low + "."
	}
	return ""
}

// comments returns the comment of every field that a file can have, by "Type.Field".
func comments(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, name := range []string{"config.go", "deploy.go", "kubernetes.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			for _, f := range spec.Type.(*ast.StructType).Fields.List {
				if f.Tag != nil {
					docs[spec.Name.Name+"."+f.Names[0].Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
				}
			}
			return true
		})
	}
	return docs
}

// TestTags reads every default, bound and enumeration, which would otherwise panic in front of a user.
func TestTags(t *testing.T) {
	var walk func(reflect.Type, string)
	walk = func(typ reflect.Type, path string) {
		for f := range fields(typ) {
			inner := f.Type
			if fieldName(f) == "" {
				continue
			}
			for _, key := range []string{"default", "min", "max"} {
				if text, ok := f.Tag.Lookup(key); ok {
					parsed(reflect.Zero(inner), text)
				}
			}
			if inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && !isLeaf(reflect.Zero(inner)) {
				walk(inner, join(path, fieldName(f)))
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
}

func TestSampleIsRight(t *testing.T) {
	data, err := os.ReadFile("../../sluice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(data, "sluice.yaml"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("../../app"); err == nil {
		if _, err := Load(filepath.FromSlash("../../sluice.yaml")); err != nil {
			t.Error(err)
		}
	}
	// With every commented setting switched on the file is right too, but for the files it then names.
	text := regexp.MustCompile(`(?m)^( *)# ( *(?:- )?[a-z_]+:.*)$`).ReplaceAllString(string(data), "$1$2")
	text = strings.Replace(text, "yaml-language-server", "# yaml-language-server", 1)
	c, err := Parse([]byte(text), "sluice.yaml")
	if err != nil {
		t.Fatalf("with all settings:\n%v\n%s", err, text)
	}
	if c.Deploy.Kubernetes.Traffic != "httproute" || c.Deploy.ArgoCD.Secret != "shop-git" {
		t.Errorf("some commented setting of the target kubernetes was not switched on:\n%s", text)
	}
	if c.Deploy.Gate.SLO.Errors != 0.01 || c.Version != "v1.0.0" || c.BPF.Bundle == "" || c.Service.Port != 8080 {
		t.Errorf("some commented setting was not switched on:\n%s", text)
	}
}
