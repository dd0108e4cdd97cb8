// Code generated from ci/enginetest/plan.go (UPDATE=1 go test ./internal/engine). DO NOT EDIT.

package enginetest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var reference = regexp.MustCompile("<[0-9a-f]{16}>")

// Plan is what was asked since Reset, for people and for comparison: values get
// a number and are written before what refers to them, in an order that does not
// depend on which was asked for first.
func (r *Recorder) Plan() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &plan{values: r.values, numbers: map[string]string{}}
	used := map[string]bool{}
	for _, req := range r.asked {
		for _, id := range reference.FindAllString(render(req.chain), -1) {
			used[id] = true
		}
	}
	for _, req := range r.asked {
		switch {
		case req.id == "":
			p.ask(req.chain)
		case !used[req.id]:
			p.define(req.id)
		}
	}
	return strings.Join(p.lines, "\n")
}

type plan struct {
	values  map[string]request
	numbers map[string]string
	lines   []string
	last    []field // what the last question was about
}

// define writes a value, and before it the values it is made of.
func (p *plan) define(id string) {
	if _, done := p.numbers[id]; done {
		return
	}
	text := p.text(p.values[id].chain)
	p.numbers[id] = fmt.Sprintf("#%d", len(p.numbers)+1)
	p.lines = append(p.lines, p.numbers[id]+" = "+text)
}

// ask writes a question. One about the same value as the last is short.
func (p *plan) ask(chain []field) {
	if n := len(p.last); n > 0 && len(chain) > n && slices.Equal(chain[:n], p.last) {
		p.lines = append(p.lines, "ask the same\n  ."+render(chain[n:]))
		return
	}
	p.lines = append(p.lines, "ask "+p.text(chain))
	p.last = chain[:len(chain)-1]
}

func (p *plan) text(chain []field) string {
	text := render(chain)
	for _, id := range reference.FindAllString(text, -1) {
		if _, known := p.values[id]; known {
			p.define(id)
			text = strings.ReplaceAll(text, `"`+id+`"`, p.numbers[id])
		}
	}
	return text
}
