package config

import (
	"reflect"
	"slices"
	"strings"
)

// suggest says what an unknown field may have been meant to be: a similar name of the same section, the same name
// in another section, or else every name of the section.
func (d *decoder) suggest(name string, t reflect.Type, path string) string {
	var names []string
	for f := range fields(t) {
		if n := fieldName(f); n != "" {
			names = append(names, n)
		}
	}
	if best := nearest(name, names); best != "" {
		return "did you mean " + best + "?"
	}
	if d.known == nil {
		d.known = map[string][]string{}
		collect(reflect.TypeFor[Config](), "", d.known)
	}
	if paths := d.known[name]; len(paths) > 0 {
		return "did you mean " + strings.Join(paths, " or ") + "?"
	}
	slices.Sort(names)
	return "known: " + strings.Join(names, ", ")
}

func didYouMean(name string, names []string) string {
	if best := nearest(name, names); best != "" {
		return " (did you mean " + best + "?)"
	}
	return ""
}

// collect fills known with the paths of all fields below t.
func collect(t reflect.Type, path string, known map[string][]string) {
	for f := range fields(t) {
		name := fieldName(f)
		if name == "" {
			continue
		}
		at, inner := join(path, name), f.Type
		known[name] = append(known[name], at)
		if inner.Kind() == reflect.Slice {
			at, inner = at+"[]", inner.Elem()
		}
		if inner.Kind() == reflect.Struct && !isLeaf(reflect.Zero(inner)) {
			collect(inner, at, known)
		}
	}
}

// nearest returns the most similar of names, or "" if none differs by at most a third of its letters.
func nearest(name string, names []string) string {
	best, least := "", 0
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "_")) }
	for _, n := range names {
		d := distance(plain(name), plain(n))
		if d <= max(1, len(n)/3) && (best == "" || d < least) {
			best, least = n, d
		}
	}
	return best
}

// distance returns how many letters must be inserted, removed, replaced or swapped with their neighbour to turn a
// into b (optimal string alignment). Names longer than any field are never near.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
