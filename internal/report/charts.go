package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
)

// arms are the names of the arms as classes and as words.
var arms = [2]string{"stable", "canary"}

// charts draws everything that d has data for, in reading order. what names the
// resolution of the curves.
func charts(d Data) (panels []panel, what string) {
	f, ok := newFrame(d)
	if !ok {
		return nil, ""
	}
	if p, ok := f.evidence(d); ok {
		panels = append(panels, p)
	}
	if p, ok := f.weights(d.Weights); ok {
		panels = append(panels, p)
	}
	if len(d.Blocks) > 0 {
		slow, fine := bins(d.Blocks, forQuantiles(d.Blocks)), bins(d.Blocks, coarse(len(d.Blocks)))
		panels = append(panels, f.latency(slow)...)
		panels = append(panels, f.requests(fine), f.errors(fine))
		for i := range panels {
			f.faults(&panels[i], fine)
		}
		what = fmt.Sprintf("One point is %s in the latency charts and %s in the others.", length(slow), length(fine))
	}
	for i := range panels {
		panels[i].Marks = f.moments(d.Record.Timeline)
	}
	return panels, what
}

func length(bs []bin) string {
	return duration(bs[0].End.Sub(bs[0].Start).Round(100 * time.Millisecond))
}

// newFrame spans everything that was measured or done to the traffic.
func newFrame(d Data) (frame, bool) {
	var times []time.Time
	if n := len(d.Blocks); n > 0 {
		times = append(times, d.Blocks[0].Start, d.Blocks[n-1].End)
	}
	for _, w := range d.Weights {
		times = append(times, w.At)
	}
	for _, p := range d.Evidence {
		times = append(times, p.At)
	}
	if len(times) == 0 {
		return frame{}, false
	}
	if t := d.Record.Timeline.Traffic; !t.IsZero() {
		times = append(times, t)
	}
	start, end := slices.MinFunc(times, time.Time.Compare), slices.MaxFunc(times, time.Time.Compare)
	span := end.Sub(start)
	return frame{start: start, x: timeAxis(span+span/32, 6)}, true // what happens last is not on the very edge
}

// moments marks the first bad answer and the verdict; the traffic moves so soon
// after the verdict that a line of its own could not be told apart.
func (f frame) moments(t release.Timeline) []mark {
	var out []mark
	for _, m := range []struct {
		class string
		at    time.Time
	}{{"breach", t.Breach}, {"verdict", t.Verdict}} {
		if !m.at.IsZero() && !m.at.Before(f.start) {
			out = append(out, mark{m.class, number(f.at(m.at))})
		}
	}
	return out
}

// evidence draws the odds against and for the canary, each with its limit.
func (f frame) evidence(d Data) (panel, bool) {
	points := thinOut(d.Evidence, 2*maxBins)
	if len(points) == 0 {
		return panel{}, false
	}
	fail, pass := 1/d.Alpha, 1/d.Beta
	lo, hi := 0.1, fail*10
	var known bool
	for _, p := range points {
		for _, o := range []float64{p.Odds, p.PassOdds} {
			if drawable(o) {
				lo, hi = min(lo, o), max(hi, o)
			}
		}
		known = known || drawable(p.PassOdds)
	}
	exp := func(v float64) float64 { return math.Log10(v) }
	y := oddsAxis(max(-3, int(math.Floor(exp(lo)))), min(int(math.Ceil(exp(hi))), int(math.Ceil(exp(fail)))+2))
	p := f.panel("evidence", "Evidence", "odds, log scale", y)
	p.Wide = true
	if hi > y.hi || lo < y.lo {
		p.Unit += fmt.Sprintf(", cut off at %s and %s", power(int(math.Round(exp(y.lo)))), power(int(math.Round(exp(y.hi)))))
	}
	p.limit(y, "fail", fail, pass < fail, "fails at "+odds(fail))
	against := make([]sample, len(points))
	favour := make([]sample, len(points))
	for i, pt := range points {
		x := f.at(pt.At)
		against[i] = sample{x, y.at(pt.Odds), drawable(pt.Odds)}
		favour[i] = sample{x, y.at(pt.PassOdds), drawable(pt.PassOdds)}
		text := offset(f.start, pt.At) + "  against the canary " + odds(pt.Odds)
		if drawable(pt.PassOdds) {
			text += ", for it " + odds(pt.PassOdds)
		}
		p.Hits = append(p.Hits, hit{X: number(x - 2), Width: "4", Text: text})
	}
	p.Lines = append(p.Lines, line{"against", path(against)})
	last := points[len(points)-1]
	p.Desc = fmt.Sprintf("Odds that the canary is worse, after each look; the gate fails it at %s. At the end they are %s.", odds(fail), odds(last.Odds))
	if known {
		p.limit(y, "pass", pass, pass >= fail, "passes at "+odds(pass))
		p.Lines = append(p.Lines, line{"favour", path(favour)})
		p.Desc += fmt.Sprintf(" Odds that it is not worse: at the end %s; the gate passes it at %s.", odds(last.PassOdds), odds(pass))
	}
	return p, true
}

// drawable odds have a place on a logarithmic scale.
func drawable(odds float64) bool { return odds > 0 && !math.IsInf(odds, 1) }

// limit adds a horizontal line; its label stands over or under its height.
func (p *panel) limit(y axis, class string, at float64, over bool, label string) {
	h := side - y.at(at)
	if over {
		class += " over"
	}
	p.Limits = append(p.Limits, limit{Class: class, Y: number(h), Pos: number(h * 100 / side), Label: label})
}

// thinOut keeps at most n points: of every run the one with the most extreme
// odds, and always the last.
func thinOut(points []Point, n int) []Point {
	if len(points) <= n {
		return points
	}
	size := (len(points) + n - 1) / n
	var out []Point
	for run := range slices.Chunk(points[:len(points)-1], size) {
		out = append(out, slices.MaxFunc(run, func(a, b Point) int {
			return cmp.Compare(max(a.Odds, a.PassOdds), max(b.Odds, b.PassOdds))
		}))
	}
	return append(out, points[len(points)-1])
}

func (f frame) weights(ws []Weight) (panel, bool) {
	if len(ws) == 0 {
		return panel{}, false
	}
	y := axis{hi: 1}
	for _, v := range []float64{0, .25, .5, .75, 1} {
		y.ticks = append(y.ticks, y.tickAt(v, percent(v), true))
	}
	p := f.panel("weight", "Canary weight", "share of new connections", y)
	samples := []sample{{0, 0, true}}
	said := make([]string, len(ws))
	for i, w := range ws {
		x := f.at(w.At)
		samples = append(samples, sample{x, y.at(w.Share), true})
		end := float64(side)
		if i+1 < len(ws) {
			end = f.at(ws[i+1].At)
		}
		said[i] = fmt.Sprintf("%s from %s on", percent(w.Share), offset(f.start, w.At))
		p.Hits = append(p.Hits, hit{X: number(x), Width: number(max(end-x, 0)), Text: said[i]})
	}
	if len(said) > 12 {
		said = append(said[:11:11], "…", said[len(said)-1])
	}
	p.Lines = []line{{"canary solid", steps(samples)}}
	p.Desc = "The canary's share of new connections: " + strings.Join(said, ", ") + "."
	return p, true
}

// latency draws one chart a quantile, all on the same scale.
func (f frame) latency(bs []bin) []panel {
	quantiles := []struct {
		id string
		q  float64
	}{{"p50", .5}, {"p90", .9}, {"p99", .99}}
	value := func(arm int, q float64) func(*bin) (float64, bool) {
		return func(b *bin) (float64, bool) {
			return b.Arms[arm].Latency.Quantile(q).Seconds(), b.Arms[arm].Latency.Count() > 0
		}
	}
	lo, hi := math.Inf(1), 0.0
	for i := range bs {
		for arm := range arms {
			for _, q := range quantiles {
				if v, ok := value(arm, q.q)(&bs[i]); ok {
					lo, hi = min(lo, v), max(hi, v)
				}
			}
		}
	}
	y := latencyAxis(lo, hi)
	var out []panel
	for _, q := range quantiles {
		p := f.panel(q.id, "Latency "+q.id, "log scale", y)
		p.Desc = q.id + " of the time from the first byte of a request to the last of its answer, for both arms."
		for arm, name := range arms {
			f.curve(&p, y, name, bs, value(arm, q.q))
		}
		f.hits(&p, bs, func(b *bin) string {
			return both(b, func(a *gate.Arm) string {
				if a.Latency.Count() == 0 {
					return "–"
				}
				return duration(a.Latency.Quantile(q.q))
			})
		})
		out = append(out, p)
	}
	return out
}

func (f frame) requests(bs []bin) panel {
	rate := func(b *bin, arm int) float64 { return float64(b.Arms[arm].Requests) / max(b.seconds(), 1e-9) }
	top, baseline := 0.0, false
	for i := range bs {
		baseline = baseline || bs[i].Arms[stable].Requests > 0
		top = max(top, rate(&bs[i], stable), rate(&bs[i], canary))
	}
	y := linearAxis(top, digits)
	p := f.panel("requests", "Requests", "per second", y)
	p.Desc = "Answered requests per second of both arms."
	for arm, name := range arms {
		f.curve(&p, y, name, bs, func(b *bin) (float64, bool) { return rate(b, arm), arm == canary || baseline })
	}
	f.hits(&p, bs, func(b *bin) string {
		return both(b, func(a *gate.Arm) string { return digits(float64(a.Requests)/max(b.seconds(), 1e-9)) + "/s" })
	})
	return p
}

func (f frame) errors(bs []bin) panel {
	share := func(a *gate.Arm) float64 { return float64(a.Errors) / max(float64(a.Requests), 1) }
	top := 0.01
	for i := range bs {
		top = max(top, share(&bs[i].Arms[stable]), share(&bs[i].Arms[canary]))
	}
	y := linearAxis(min(top, 1), percent)
	p := f.panel("errors", "Errors", "share of requests", y)
	p.Desc = "Share of requests answered with a 5xx status or cut off, of both arms."
	for arm, name := range arms {
		f.curve(&p, y, name, bs, func(b *bin) (float64, bool) { return share(&b.Arms[arm]), b.Arms[arm].Requests > 0 })
	}
	f.hits(&p, bs, func(b *bin) string {
		return both(b, func(a *gate.Arm) string { return count(a.Errors) + " of " + count(a.Requests) })
	})
	return p
}

// both writes what say tells of each arm, and a fault.
func both(b *bin, say func(*gate.Arm) string) string {
	text := "stable " + say(&b.Arms[stable]) + ", canary " + say(&b.Arms[canary])
	if b.Fault != "" {
		text += "; " + b.Fault
	}
	return text
}
