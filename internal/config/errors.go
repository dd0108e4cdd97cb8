package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong in a file, and what would be right.
type Problem struct {
	Line int    `json:"line"` // 1 is the first line
	Path string `json:"path"` // the field, for example deploy.canary.steps[1].weight; empty when the file as a whole is meant
	Text string `json:"text"`

	column int
}

// Error is everything that is wrong in a file, in the order of its lines.
type Error struct {
	File     string    `json:"file"`
	Problems []Problem `json:"problems"`
}

// Error returns one line for each problem: "sluice.yaml:12: deploy.canary.steps[1].weight: 120% is more than 100%".
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = fmt.Sprintf("%s:%d: ", e.File, p.Line)
		if p.Path != "" {
			lines[i] += p.Path + ": "
		}
		lines[i] += p.Text
	}
	return strings.Join(lines, "\n")
}

// place is where a field stands in the file.
type place struct{ line, column int }

// problems collects what is wrong. The value of a field is complained about once.
type problems struct {
	list   []Problem
	broken map[string]bool // fields whose value means nothing
}

// add reports the value of a field, unless it or a section around it was reported before.
func (p *problems) add(at place, path, format string, args ...any) {
	if !p.fine(path) {
		return
	}
	if p.broken == nil {
		p.broken = map[string]bool{}
	}
	p.broken[path] = path != ""
	p.note(at, path, format, args...)
}

// note reports something beside the value of a field: a name that is unknown or comes twice.
func (p *problems) note(at place, path, format string, args ...any) {
	p.list = append(p.list, Problem{Line: max(at.line, 1), column: at.column, Path: path, Text: fmt.Sprintf(format, args...)})
}

// fine reports that the values of the fields, and so the comparison between them, mean something.
func (p *problems) fine(paths ...string) bool {
	return !slices.ContainsFunc(paths, func(path string) bool {
		for ; path != ""; path = outer(path) {
			if p.broken[path] {
				return true
			}
		}
		return false
	})
}

// outer returns the path of what holds a field: "a.b[1]" for "a.b[1].c", "a.b" for "a.b[1]", "" for "a".
func outer(path string) string { return path[:max(strings.LastIndexAny(path, ".["), 0)] }

// err returns the problems as an *Error, or nil if there are none.
func (p *problems) err(file string) error {
	if len(p.list) == 0 {
		return nil
	}
	slices.SortStableFunc(p.list, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.column, b.column))
	})
	return &Error{File: file, Problems: p.list}
}
