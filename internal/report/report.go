// Package report writes what a rollout showed as one HTML file that a person
// can open from the disk, mail or print.
//
// The file needs nothing else: no script, no font, no network. The same data
// gives the same bytes, names and reasons may hold anything, and a rollout of
// half an hour stays below 500 KB because the curves are thinned out. The
// package judges nothing: every verdict, number of odds and reason comes from
// the caller.
package report

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
)

// Data is all that a report shows. Only Record is required; what is missing is
// left out of the page, or named as missing where that matters.
type Data struct {
	Record   release.Record
	Release  *release.Release // digests of everything that was shipped
	Verdict  gate.Verdict     // the last one
	Blocks   []gate.Block     // oldest first
	Evidence []Point          // the odds after each look
	Weights  []Weight         // oldest first
	Events   []Event          // oldest first
	Alpha    float64          // the gate fails at odds of 1/Alpha; 0 means 0.01
	Beta     float64          // the gate passes at odds of 1/Beta; 0 means 0.05
	Signed   []Signature
	Programs []Program // what the kernel had loaded
	Recorded string    // path of the recorded samples, for the reader who recomputes
	Command  string    // how to compute the verdict again; "" leaves that section out
}

// Point is the state of the evidence after one look of the gate.
type Point struct {
	At       time.Time
	Odds     float64 // that the canary is worse, to one
	PassOdds float64 // that it is not, of the comparison that has the least; 0 means not known
}

// PointOf takes from a verdict what the chart of the evidence needs.
func PointOf(at time.Time, v gate.Verdict) Point {
	p := Point{At: at, Odds: v.Odds}
	for _, c := range v.Checks {
		objective := strings.HasPrefix(c.Name, "slo-") // a pass rests on the comparisons
		if !objective && c.PassOdds > 0 && (p.PassOdds == 0 || c.PassOdds < p.PassOdds) {
			p.PassOdds = c.PassOdds
		}
	}
	return p
}

// Weight is a change of the canary's share of new connections, from 0 to 1.
type Weight struct {
	At    time.Time
	Share float64
}

// Event is something that happened, in a person's words.
type Event struct {
	At   time.Time
	Text string
}

// Signature says what was signed and by whom.
type Signature struct {
	Of     string // "image", "eBPF object"
	Digest string
	Signer string // key or identity
}

// Program is one eBPF program as this kernel has loaded it.
type Program struct {
	Name, Tag, AttachedTo string
	ID                    uint32
}

//go:embed page.html.tmpl
var pageText string

//go:embed style.css
var styleText string

var page = template.Must(template.New("report").Parse(pageText))

// Render writes the page to w.
func Render(w io.Writer, d Data) error {
	if d.Alpha == 0 {
		d.Alpha = 0.01
	}
	if d.Beta == 0 {
		d.Beta = 0.05
	}
	for name, v := range map[string]float64{"alpha": d.Alpha, "beta": d.Beta} {
		if !(v > 0 && v < 1) || math.IsNaN(v) {
			return fmt.Errorf("rendering report: %s is %v, not between 0 and 1", name, v)
		}
	}
	if err := page.Execute(w, newView(d)); err != nil {
		return fmt.Errorf("rendering report: %w", err)
	}
	return nil
}

// Write renders the page to path. The file appears whole or not at all.
func Write(path string, d Data) error {
	var out bytes.Buffer
	if err := Render(&out, d); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".report-*")
	if err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(out.Bytes())
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing report %s: %w", path, err)
	}
	return nil
}
