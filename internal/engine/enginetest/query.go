// Code generated from ci/enginetest/query.go (UPDATE=1 go test ./internal/engine). DO NOT EDIT.

package enginetest

import (
	"fmt"
	"slices"
	"strings"
)

// fragment begins a step that is not there in an answer.
const fragment = "... on "

// field is one step of a request: container, from(address:"golang").
type field struct{ name, args string }

// parse reads what Dagger's clients send: fields in fields, one in each.
func parse(query string) ([]field, error) {
	rest := query[max(strings.Index(query, "{"), 0):] // past "query NAME"
	var chain []field
	for strings.HasPrefix(rest, "{") {
		rest = strings.TrimSpace(rest[1:])
		end := strings.IndexAny(rest, "{}(")
		if end <= 0 {
			return nil, fmt.Errorf("query %q: a field has no name", query)
		}
		f := field{name: strings.TrimSpace(rest[:end])}
		if strings.Contains(f.name, " ") && !strings.HasPrefix(f.name, fragment) {
			return nil, fmt.Errorf("query %q: %q is more than one field", query, f.name)
		}
		rest = rest[end:]
		if strings.HasPrefix(rest, "(") {
			n := closing(rest)
			if n < 0 {
				return nil, fmt.Errorf("query %q: arguments do not end", query)
			}
			f.args, rest = sorted(rest[1:n]), rest[n+1:]
		}
		chain = append(chain, f)
		rest = strings.TrimSpace(rest)
	}
	if len(chain) == 0 || strings.Trim(rest, "} ") != "" {
		return nil, fmt.Errorf("query %q is no chain of fields", query)
	}
	return chain, nil
}

// closing is where the parenthesis at the start of s is closed.
func closing(s string) int {
	end := -1
	depths(s, func(i, depth int) bool {
		if depth == 0 {
			end = i
		}
		return depth > 0
	})
	return end
}

// sorted puts arguments in the order of their names; clients send them in any.
func sorted(args string) string {
	var list []string
	from := 0
	depths(args, func(i, depth int) bool {
		if depth == 0 && args[i] == ',' {
			list = append(list, strings.TrimSpace(args[from:i]))
			from = i + 1
		}
		return true
	})
	list = append(list, strings.TrimSpace(args[from:]))
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// depths calls f for every byte outside strings with how many brackets are
// open after it, until f has seen enough.
func depths(s string, f func(i, depth int) bool) {
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
			continue
		case c == '"':
			quoted = !quoted
		case quoted:
			continue
		case strings.ContainsRune("([{", rune(c)):
			depth++
		case strings.ContainsRune(")]}", rune(c)):
			depth--
		}
		if !quoted && !f(i, depth) {
			return
		}
	}
}

// render writes a request for people, one field a line.
func render(chain []field) string {
	var b strings.Builder
	for i, f := range chain {
		if i > 0 {
			b.WriteString("\n  .")
		}
		b.WriteString(f.name)
		if f.args != "" {
			b.WriteString("(" + strings.ReplaceAll(f.args, `\n`, "\n      ") + ")")
		}
	}
	return b.String()
}
