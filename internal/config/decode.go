package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder turns YAML nodes into the fields of a struct, following the field tags. It goes on after a problem.
type decoder struct {
	problems
	position map[string]place
	known    map[string][]string // field name → every path where such a field may stand
}

// section decodes a mapping into a struct. A nil node is a section that was left out: only its defaults and
// missing fields are looked at, and at is the place of what should have held it.
func (d *decoder) section(n *yaml.Node, v reflect.Value, path string, at place) {
	given := map[string]*yaml.Node{}
	if n != nil && !isNull(n) {
		if n.Kind != yaml.MappingNode {
			d.add(placeOf(n), path, "%s where a section (name: value) belongs", what(n))
			return
		}
		given = d.keys(n, v.Type(), path)
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := fieldName(f)
		if name == "" {
			continue
		}
		if given[name] == nil && dispensable(f.Tag, v) {
			continue
		}
		d.field(given[name], v.Field(i), f.Tag, join(path, name), at)
	}
}

// dispensable reports whether the section with this tag may be left out, given the fields before it in v.
func dispensable(tag reflect.StructTag, v reflect.Value) bool {
	rule := tag.Get("optional")
	name, value, conditional := condition(rule)
	if !conditional {
		return rule != ""
	}
	f, _ := fieldByName(v.Type(), name)
	return v.FieldByIndex(f.Index).String() != value
}

// condition takes "unless target=local" apart.
func condition(rule string) (field, value string, ok bool) {
	rest, ok := strings.CutPrefix(rule, "unless ")
	field, value, _ = strings.Cut(rest, "=")
	return field, value, ok
}

// keys returns the values of a mapping by their keys, and reports keys that no field has and keys that come twice.
func (d *decoder) keys(n *yaml.Node, t reflect.Type, path string) map[string]*yaml.Node {
	given := map[string]*yaml.Node{}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		switch _, ok := fieldByName(t, key.Value); {
		case key.Value == "<<" && key.ShortTag() == "!!merge":
			d.note(placeOf(key), at, "merge keys are not supported: write the fields out")
		case key.Kind != yaml.ScalarNode:
			d.note(placeOf(key), path, "%s where the name of a field belongs", what(key))
		case first[key.Value] > 0:
			d.note(placeOf(key), at, "is given twice, first in line %d", first[key.Value])
		case !ok:
			d.note(placeOf(key), at, "unknown field (%s)", d.suggest(key.Value, t, path))
		default:
			given[key.Value] = value
			d.position[at] = placeOf(key)
		}
		if first[key.Value] == 0 {
			first[key.Value] = key.Line
		}
	}
	return given
}

// field decodes one field, or its default if n is nil. parent is the place of the section it belongs to.
func (d *decoder) field(n *yaml.Node, v reflect.Value, tag reflect.StructTag, path string, parent place) {
	if n != nil {
		n = resolve(n)
		if v.Kind() == reflect.Struct && !isLeaf(v) {
			d.section(n, v, path, d.position[path])
			return
		}
		d.value(n, v, tag, path)
		return
	}
	example, required := tag.Lookup("required")
	text, hasDefault := tag.Lookup("default")
	switch {
	case required:
		d.add(parent, path, "is missing (for example %s)", example)
	case hasDefault:
		setDefault(v, text)
	case v.Kind() == reflect.Struct && !isLeaf(v):
		d.section(nil, v, path, parent)
	}
}

// value decodes what is not a section.
func (d *decoder) value(n *yaml.Node, v reflect.Value, tag reflect.StructTag, path string) {
	n = resolve(n)
	switch {
	case isNull(n):
		d.add(placeOf(n), path, "has no value: give it one or remove the line")
	case isLeaf(v):
		d.leaf(n, v, tag, path)
	case v.Kind() == reflect.Slice:
		d.list(n, v, path)
	case v.Kind() == reflect.Map:
		d.texts(n, v, path)
	case v.Kind() == reflect.Struct:
		d.section(n, v, path, placeOf(n))
	default:
		d.scalar(n, v, tag, path)
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.add(placeOf(n), path, "%s where a list ([a, b]) belongs", what(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.position[at] = placeOf(item)
		d.value(item, v.Index(i), "", at)
	}
}

func (d *decoder) texts(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.add(placeOf(n), path, "%s where a section (NAME: text) belongs", what(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, at := n.Content[i], join(path, n.Content[i].Value)
		if _, twice := d.position[at]; twice {
			d.note(placeOf(key), at, "is given twice, first in line %d", d.position[at].line)
			continue
		}
		d.position[at] = placeOf(key)
		text := reflect.New(v.Type().Elem()).Elem()
		d.value(n.Content[i+1], text, "", at)
		v.SetMapIndex(reflect.ValueOf(key.Value), text)
	}
}

// leaf decodes a type with a text form of its own; quotes around it make no difference.
func (d *decoder) leaf(n *yaml.Node, v reflect.Value, tag reflect.StructTag, path string) {
	if n.Kind != yaml.ScalarNode || !isText(n) && !isNumber(n) {
		d.add(placeOf(n), path, "%s where a value such as %s belongs", what(n), exampleOf(v, tag))
		return
	}
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
		d.add(placeOf(n), path, "%v", err)
		return
	}
	d.bounds(n, v, tag, path)
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, tag reflect.StructTag, path string) {
	kind := map[reflect.Kind]string{reflect.String: "text", reflect.Bool: "true or false", reflect.Int: "a whole number", reflect.Float64: "a number"}[v.Kind()]
	if n.Kind != yaml.ScalarNode {
		d.add(placeOf(n), path, "%s where %s belongs", what(n), kind)
		return
	}
	switch v.Kind() {
	case reflect.String:
		if !isText(n) {
			d.add(placeOf(n), path, "%s is %s where text belongs: write %q in quotes", n.Value, what(n), n.Value)
			return
		}
		v.SetString(n.Value)
	default:
		if err := set(v, n.Value); err != nil {
			d.add(placeOf(n), path, "%q is not %s", n.Value, kind)
			return
		}
		if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
			d.add(placeOf(n), path, "%q is text where %s belongs: remove the quotes", n.Value, kind)
			return
		}
	}
	d.bounds(n, v, tag, path)
}

// bounds checks min, max and enum of a field.
func (d *decoder) bounds(n *yaml.Node, v reflect.Value, tag reflect.StructTag, path string) {
	if text, ok := tag.Lookup("min"); ok && number(v) < number(parsed(v, text)) {
		d.add(placeOf(n), path, "%s is less than %s", n.Value, text)
	}
	if text, ok := tag.Lookup("max"); ok && number(v) > number(parsed(v, text)) {
		d.add(placeOf(n), path, "%s is more than %s%s", n.Value, text, tag.Get("slip"))
	}
	enum, ok := tag.Lookup("enum")
	if names := strings.Split(enum, ","); ok && !contains(names, v.String()) {
		d.add(placeOf(n), path, "%q is not one of %s%s", v.String(), strings.Join(names, ", "), didYouMean(v.String(), names))
	}
}

// set reads text into a field of a plain or leaf type.
func set(v reflect.Value, text string) error {
	if leaf, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return leaf.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
		return nil
	case reflect.Bool:
		if text != "true" && text != "false" {
			return strconv.ErrSyntax
		}
		v.SetBool(text == "true")
		return nil
	case reflect.Int:
		i, err := strconv.Atoi(text)
		v.SetInt(int64(i))
		return err
	default:
		if !numberForm.MatchString(text) {
			return strconv.ErrSyntax
		}
		f, err := strconv.ParseFloat(text, 64)
		v.SetFloat(f)
		return err
	}
}

// setDefault sets a field to the text of its default tag; lists are separated by commas.
func setDefault(v reflect.Value, text string) {
	if v.Kind() == reflect.Slice {
		v.Set(reflect.ValueOf(strings.Split(text, ",")))
		return
	}
	if err := set(v, text); err != nil {
		panic(fmt.Sprintf("config: default %q of a %s: %v", text, v.Type(), err)) // a test reads every tag
	}
}

func parsed(like reflect.Value, text string) reflect.Value {
	v := reflect.New(like.Type()).Elem()
	setDefault(v, text)
	return v
}

func number(v reflect.Value) float64 {
	if v.CanFloat() {
		return v.Float()
	}
	return float64(v.Int())
}
