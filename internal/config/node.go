package config

import (
	"encoding"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

func placeOf(n *yaml.Node) place { return place{n.Line, n.Column} }

// resolve follows an alias to its anchor. The parser guarantees that anchors stand before their aliases, and the
// depth of the types bounds how often an anchor inside itself is followed.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool   { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }
func isText(n *yaml.Node) bool   { return n.ShortTag() == "!!str" }
func isNumber(n *yaml.Node) bool { return n.ShortTag() == "!!int" || n.ShortTag() == "!!float" }

// what names the kind of a node in the words of the messages.
func what(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a section"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!str":
		return "text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a boolean"
	case "!!timestamp":
		return "a date"
	case "!!null":
		return "nothing"
	}
	return "a value of type " + n.Tag
}

// isLeaf reports whether v's type has a text form of its own.
func isLeaf(v reflect.Value) bool {
	return reflect.PointerTo(v.Type()).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// exampleOf returns a correct value for a field.
func exampleOf(v reflect.Value, tag reflect.StructTag) string {
	for _, key := range []string{"required", "default"} {
		if text, ok := tag.Lookup(key); ok {
			return text
		}
	}
	switch v.Interface().(type) {
	case Size:
		return "20MiB"
	case Ratio:
		return "10%"
	}
	return "5s"
}

// fieldName returns the name of a field in the file, or "" if it has none.
func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func fieldByName(t reflect.Type, name string) (reflect.StructField, bool) {
	for f := range fields(t) {
		if fieldName(f) == name && name != "" {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func fields(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if !yield(t.Field(i)) {
				return
			}
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func contains(names []string, name string) bool { return slices.Contains(names, name) }
