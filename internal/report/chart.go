package report

import (
	"strings"
	"time"
)

// panel is one chart as the template draws it. Lengths inside it go from 0 to
// side; the page stretches them, and writes the labels beside them as text, so
// that they keep their size on every screen.
type panel struct {
	ID, Title, Unit, Desc string
	Wide                  bool
	X, Y                  []tick
	Grid                  []string // heights
	Faults                []band
	Lines                 []line
	Limits                []limit
	Marks                 []mark
	Hits                  []hit
}

// line is one curve. Class names the arm: its colour and its dashes.
type line struct{ Class, Path string }

// limit is a horizontal line with a label.
type limit struct{ Class, Y, Pos, Label string }

// mark is a vertical line: a moment of the timeline.
type mark struct{ Class, X string }

// band shades a part of the time; hit shows a text when pointed at.
type (
	band struct{ X, Width string }
	hit  struct{ X, Width, Text string }
)

// sample is one place of a curve; ok is false where there is nothing to draw.
type sample struct {
	x, y float64
	ok   bool
}

// path draws samples as lines with gaps. One sample between two gaps becomes a
// dot: a line without length, with round ends.
func path(samples []sample) string {
	var out strings.Builder
	for i, s := range samples {
		if !s.ok {
			continue
		}
		begins := i == 0 || !samples[i-1].ok
		alone := begins && (i+1 == len(samples) || !samples[i+1].ok)
		if begins {
			out.WriteString("M")
		} else {
			out.WriteString("L")
		}
		out.WriteString(number(s.x) + " " + number(side-s.y))
		if alone {
			out.WriteString("h0")
		}
	}
	return out.String()
}

// steps draws samples as a staircase up to the right end.
func steps(samples []sample) string {
	var out strings.Builder
	for i, s := range samples {
		if i == 0 {
			out.WriteString("M" + number(s.x) + " " + number(side-s.y))
			continue
		}
		out.WriteString("H" + number(s.x) + "V" + number(side-s.y))
	}
	if len(samples) > 0 {
		out.WriteString("H" + number(side))
	}
	return out.String()
}

// frame is what all charts of a page have in common: the time.
type frame struct {
	start time.Time
	x     axis
}

func (f frame) at(t time.Time) float64 { return f.x.at(t.Sub(f.start).Seconds()) }

// panel begins a chart with the axes.
func (f frame) panel(id, title, unit string, y axis) panel {
	p := panel{ID: id, Title: title, Unit: unit, X: f.x.ticks, Y: y.ticks}
	for _, t := range y.ticks {
		p.Grid = append(p.Grid, number(t.at))
	}
	return p
}

// curve adds one value per bin for one arm.
func (f frame) curve(p *panel, y axis, class string, bs []bin, value func(*bin) (float64, bool)) {
	samples := make([]sample, len(bs))
	for i := range bs {
		v, ok := value(&bs[i])
		mid := bs[i].Start.Add(bs[i].End.Sub(bs[i].Start) / 2)
		samples[i] = sample{x: f.at(mid), y: y.at(v), ok: ok}
	}
	if d := path(samples); d != "" {
		p.Lines = append(p.Lines, line{Class: class, Path: d})
	}
}

// hits adds a text for each bin.
func (f frame) hits(p *panel, bs []bin, text func(*bin) string) {
	for i := range bs {
		x, end := f.at(bs[i].Start), f.at(bs[i].End)
		p.Hits = append(p.Hits, hit{X: number(x), Width: number(max(end-x, 0)), Text: offset(f.start, bs[i].Start) + "  " + text(&bs[i])})
	}
}

// faults shades the bins in which the measurement could not be trusted.
func (f frame) faults(p *panel, bs []bin) {
	for i := range bs {
		if bs[i].Fault != "" {
			x, end := f.at(bs[i].Start), f.at(bs[i].End)
			p.Faults = append(p.Faults, band{X: number(x), Width: number(max(end-x, 3))})
		}
	}
}
