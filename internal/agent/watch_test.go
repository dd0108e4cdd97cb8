package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestMismatchesAreToldForAWhile(t *testing.T) {
	egress := &bpf.MismatchError{Program: "egress", What: "program in the kernel", Want: "id 1", Got: "id 2"}
	var m mismatches
	if m.text(noon) != "" {
		t.Errorf("before anything: %q", m.text(noon))
	}
	if !m.found(egress, noon) || m.found(egress, noon.Add(time.Second)) {
		t.Error("the same mismatch is new the first time, and only then")
	}
	if !m.due(noon) || m.due(noon.Add(time.Second)) || !m.due(noon.Add(repairEvery)) {
		t.Error("a repair that did not help is tried again after a while, and no sooner")
	}
	if text := m.text(noon.Add(time.Hour)); !strings.HasPrefix(text, egress.Error()) || strings.Contains(text, "repaired") {
		t.Errorf("while it lasts: %q", text)
	}
	over := noon.Add(time.Hour + 30*time.Millisecond)
	m.over(over)
	m.over(over.Add(time.Hour)) // it is over already
	if text := m.text(over.Add(shown)); !strings.HasSuffix(text, "(mismatch 1, at 2026-01-02T12:00:00Z, repaired after 1h0m0.03s)") {
		t.Errorf("after the repair: %q", text)
	}
	if text := m.text(over.Add(shown + time.Second)); text != "" {
		t.Errorf("long after the repair: %q", text)
	}
	if !m.found(egress, over.Add(time.Hour)) || m.count != 2 || !m.due(over.Add(time.Hour)) {
		t.Error("the same thing again is a new mismatch, to be repaired at once")
	}
	if other := (&bpf.MismatchError{Map: "slots", What: "it"}); !m.found(other, over.Add(time.Hour)) || m.count != 3 {
		t.Error("another mismatch is a new one")
	}
}

func TestExemplarsAreKeptForAWhileAndNotWithoutEnd(t *testing.T) {
	var e exemplars
	at := func(s int) probe.Exemplar { return probe.Exemplar{At: noon.Add(time.Duration(s) * time.Second)} }
	e.add(noon, []probe.Exemplar{at(-20), at(-1), at(0)})
	if len(e.recent) != 2 {
		t.Errorf("%d are kept, want those of the last seconds", len(e.recent))
	}
	e.add(noon.Add(exemplarsFor), []probe.Exemplar{at(10)})
	if len(e.recent) != 2 || !e.recent[0].At.Equal(noon) {
		t.Errorf("ten seconds later: %v", e.recent)
	}
	many := make([]probe.Exemplar, 10*maxExemplars)
	for i := range many {
		many[i] = at(10)
	}
	many[len(many)-1].Status = 500
	e.add(noon.Add(exemplarsFor), many)
	if len(e.recent) != maxExemplars || e.recent[maxExemplars-1].Status != 500 {
		t.Errorf("%d are kept, want the newest %d", len(e.recent), maxExemplars)
	}
}

func TestTheBaselineIsTheLastMinute(t *testing.T) {
	var w window
	if w.last() != (Segments{}) || len(w.intervals()) != 0 {
		t.Errorf("at first the last interval is %+v", w.last())
	}
	for second := range 100 {
		w.add(noon.Add(time.Duration(second)*time.Second), Segments{Sent: uint64(10 * second), Again: uint64(second)})
	}
	list := w.intervals()
	if len(list) != 61 || list[0] != (Segments{Sent: 10, Again: 1}) || w.last() != list[60] {
		t.Errorf("%d intervals, the first %+v, the last %+v", len(list), list[0], w.last())
	}
	w.add(noon.Add(100*time.Second), Segments{Sent: 5}) // counted anew
	if w.last() != (Segments{}) {
		t.Errorf("counters that shrank are an interval of %+v", w.last())
	}
	w.add(noon.Add(101*time.Second), Segments{Sent: 8, Again: 1})
	if w.last() != (Segments{Sent: 3, Again: 1}) {
		t.Errorf("after that: %+v", w.last())
	}
}

func TestWhatMeasuringCosts(t *testing.T) {
	var m meter
	m.add(noon, time.Second) // the start was expensive, and does not count
	if m.share != 0 {
		t.Errorf("at first: %v", m.share)
	}
	for second := range 60 {
		m.add(noon.Add(time.Duration(second+1)*time.Second), time.Second+time.Duration(second+1)*10*time.Millisecond)
		if m.share > 0.0101 || second >= 10 && m.share < 0.0099 {
			t.Fatalf("after %d s: %v, want a hundredth of a core", second+1, m.share)
		}
	}
	if len(m.points) > 13 {
		t.Errorf("%d points are kept", len(m.points))
	}
	for second := range 10 {
		m.add(noon.Add(time.Duration(61+second)*time.Second), 1600*time.Millisecond+time.Duration(second+1)*500*time.Millisecond)
	}
	if m.share < 0.49 {
		t.Errorf("after ten busy seconds: %v, want half a core", m.share)
	}
}

func TestABudgetThatIsExceededIsTold(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Budget = 1e-9 })
	l.eventually("the budget to be exceeded", func() bool { s := l.snapshot(); return s.Budget.Exceeded() })
	time.Sleep(3 * l.agent.cfg.Interval)
	if n := strings.Count(l.log.String(), "over budget"); n != 1 {
		t.Errorf("%d lines in the log, want one", n)
	}
}
