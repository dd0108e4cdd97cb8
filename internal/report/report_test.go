package report

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
)

func render(t *testing.T, d Data) string {
	t.Helper()
	var out bytes.Buffer
	if err := Render(&out, d); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// outline lists what a page consists of: headings, charts with the classes of
// their curves, tables with their size.
func outline(t *testing.T, page string) []string {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	var rows int
	for n := range root.Descendants() {
		switch {
		case n.Type != html.ElementNode:
		case regexp.MustCompile(`^h[1-3]$`).MatchString(n.Data):
			out = append(out, n.Data+" "+text(n))
		case n.Data == "header":
			out = append(out, "header "+attribute(n, "class"))
		case n.Data == "p" && attribute(n, "class") == "note":
			out = append(out, "note "+text(n))
		case n.Data == "figure":
			out = append(out, "chart "+attribute(n, "id"))
		case n.Data == "path" && strings.HasPrefix(attribute(n, "class"), "line") && attribute(n, "d") != "M0 6H28":
			out[len(out)-1] += " +" + strings.TrimPrefix(attribute(n, "class"), "line ")
		case n.Data == "table":
			rows = strings.Count(outer(n), "<tr")
			out = append(out, fmt.Sprintf("table of %d rows", rows-1))
		}
	}
	return out
}

func text(n *html.Node) string {
	var out strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			out.WriteString(c.Data)
		}
	}
	return strings.TrimSpace(out.String())
}

func outer(n *html.Node) string {
	var out strings.Builder
	_ = html.Render(&out, n)
	return out.String()
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// TestTheStructureOfThePages also writes the pages where a person can look at
// them, if SLUICE_REPORT_SAMPLES names a directory.
func TestTheStructureOfThePages(t *testing.T) {
	charts := func(evidence, arms, requests string) []string {
		out := []string{"h2 What the kernel saw"}
		if evidence != "" {
			out = append(out, "chart c-evidence "+evidence)
		}
		out = append(out, "chart c-weight +canary solid")
		for _, id := range []string{"p50", "p90", "p99"} {
			out = append(out, "chart c-"+id+" "+arms)
		}
		return append(out, "chart c-requests "+requests, "chart c-errors "+arms)
	}
	rest := []string{
		"h2 The arms compared", "table of 9 rows", "h2 What happened", "h2 What was shipped", "h3 Signatures", "table of 2 rows",
		"h3 Programs in the kernel", "table of 3 rows", "h2 Compute the verdict again",
	}
	checks := []string{"h2 Evidence per check", "table of 2 rows"}
	const odds, arms = "+against +favour", "+stable +canary"
	for name, want := range map[string][][]string{
		"healthy":      {{"header pass", "h1 v1.1.0 was promoted"}, charts(odds, arms, arms), checks, rest},
		"slow":         {{"header fail", "h1 v1.2.0 was rolled back"}, charts(odds, arms, arms), checks, rest},
		"errors":       {{"header fail", "h1 v1.3.0 was rolled back"}, charts(odds, arms, arms), checks, rest},
		"invalid":      {{"header invalid", "h1 v1.4.0 was rolled back"}, charts(odds, arms, arms), checks, rest},
		"inconclusive": {{"header inconclusive", "h1 v1.6.0 was rolled back"}, charts(odds, arms, arms), checks, rest},
		"no data": {
			{"header no-data", "h1 v1.5.0 was rolled back", "note The canary served no request, so there is nothing to compare."},
			charts(odds, "+stable", arms), checks, rest,
		},
		"no baseline": {
			{"header ", "h1 v1.0.0 was promoted", "note There was no baseline: the canary is shown alone."},
			charts("", "+canary", "+canary"), rest,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := os.Getenv("SLUICE_REPORT_SAMPLES")
			if dir == "" {
				dir = t.TempDir()
			}
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".html")
			if err := Write(path, scenarios[name].data()); err != nil {
				t.Fatal(err)
			}
			page, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var flat []string
			for _, part := range want {
				flat = append(flat, part...)
			}
			if diff := cmp.Diff(flat, outline(t, string(page))); diff != "" {
				t.Errorf("page (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatThePageSaysOfTheOutcome(t *testing.T) {
	ms := int64(2003)
	record := func(o release.Outcome, trigger release.Trigger, previous string) release.Record {
		return release.Record{
			Rollout: release.Rollout{Name: "shop", Version: "v2.0.0", Previous: previous, Started: start},
			Result:  release.Result{Outcome: o, Trigger: trigger, Ended: start.Add(time.Second)},
		}
	}
	breached := record(release.RolledBack, release.SLO, "v1.0.0")
	breached.BreachToTrafficMS = &ms
	for name, tt := range map[string]struct {
		record release.Record
		want   []string
	}{
		"promoted":          {record(release.Promoted, "", ""), []string{"v2.0.0 was promoted", "All new connections go to v2.0.0."}},
		"breached":          {breached, []string{"The gate saw it behave worse. It got no new connection from 2\u202fs after its first bad answer on. v1.0.0 serves."}},
		"refused":           {record(release.Refused, release.Signature, "v1.0.0"), []string{"v2.0.0 was refused", "A signature is missing or wrong. It got no traffic. v1.0.0 serves.", "Nothing was measured in this rollout."}},
		"the first refused": {record(release.Refused, release.HashMismatch, ""), []string{"What the kernel runs is not what was signed.", "No version serves."}},
		"withdrawn":         {record(release.RolledBack, release.Operator, "v1.0.0"), []string{"v2.0.0 was withdrawn", "An operator asked for it. v1.0.0 serves."}},
		"crashed":           {record(release.RolledBack, release.Crash, "v1.0.0"), []string{"A process died."}},
		"unfinished":        {release.Record{Rollout: release.Rollout{Version: "v2.0.0", Started: start}}, []string{"v2.0.0 has not ended its rollout"}},
	} {
		t.Run(name, func(t *testing.T) {
			page := render(t, Data{Record: tt.record})
			for _, want := range tt.want {
				if !strings.Contains(page, want) {
					t.Errorf("the page does not say %q", want)
				}
			}
			if strings.Contains(page, "<figure") {
				t.Error("there are charts of nothing")
			}
		})
	}
}

func TestNothingThatWasReadBecomesMarkup(t *testing.T) {
	const evil = `"'></title></style></svg><script>alert(1)</script><img src=x onerror=alert(1)>{{.}}` + "\x00"
	d := scenarios["invalid"].data()
	d.Record.Name, d.Record.Version, d.Record.Previous, d.Record.Reason, d.Record.Commit = evil, evil, evil, evil, evil
	d.Record.Verdict, d.Record.Operator, d.Record.Outcome, d.Record.Env = evil, evil, evil, evil
	d.Recorded, d.Command = evil, evil
	d.Blocks[len(d.Blocks)-1].Fault = evil
	d.Verdict.Checks[0].Name, d.Verdict.Checks[0].Text = evil, evil
	d.Events = append(d.Events, Event{start, evil})
	d.Signed = append(d.Signed, Signature{evil, evil, evil})
	d.Programs = append(d.Programs, Program{Name: evil, Tag: evil, AttachedTo: evil})
	d.Release.Object.Path, d.Release.Object.SHA256 = evil, evil
	root, err := html.Parse(strings.NewReader(render(t, d)))
	if err != nil {
		t.Fatal(err)
	}
	styles := 0
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "script", "img", "iframe", "object", "link", "base", "form", "a":
			t.Errorf("the page has an element %s", n.Data)
		case "style":
			styles++
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "src" || a.Key == "href" {
				t.Errorf("the page has an attribute %s on %s", a.Key, n.Data)
			}
		}
	}
	if styles != 1 {
		t.Errorf("%d style elements", styles)
	}
}

func TestThePageNeedsNothingElse(t *testing.T) {
	page := render(t, scenarios["slow"].data())
	for _, bad := range []string{"http:", "https:", "url(", "@import", "<script", "ZgotmplZ", "NaN", "Inf"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
}

func TestEveryChartHasATitleAndADescription(t *testing.T) {
	root, err := html.Parse(strings.NewReader(render(t, scenarios["errors"].data())))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for n := range root.Descendants() {
		if id := attribute(n, "id"); id != "" {
			if _, twice := ids[id]; twice {
				t.Errorf("the id %s is there twice", id)
			}
			ids[id] = text(n)
		}
	}
	charts := 0
	for n := range root.Descendants() {
		if n.Data == "th" && attribute(n, "scope") == "" {
			t.Errorf("a table header without a scope: %s", outer(n))
		}
		if n.Data != "svg" || attribute(n, "role") != "img" {
			continue
		}
		charts++
		for id := range strings.FieldsSeq(attribute(n, "aria-labelledby")) {
			if ids[id] == "" {
				t.Errorf("a chart is named by %s, which is empty or missing", id)
			}
		}
	}
	if charts != 7 {
		t.Errorf("%d charts", charts)
	}
}

func TestHalfAnHourStaysSmallAndIsTheSameEveryTime(t *testing.T) {
	d := scenarios["half an hour"].data()
	first := render(t, d)
	if len(first) > 500_000 {
		t.Errorf("the page has %d bytes", len(first))
	}
	t.Logf("%d blocks: %d bytes", len(d.Blocks), len(first))
	for range 3 {
		if render(t, d) != first {
			t.Fatal("the same data gave other bytes")
		}
	}
}

func TestWildNumbersDoNotBreakThePage(t *testing.T) {
	d := scenarios["slow"].data()
	for i, v := range []float64{math.NaN(), math.Inf(1), 0, -1, 1e300, 1e-300} {
		d.Evidence = append(d.Evidence, Point{start.Add(time.Duration(i) * time.Second), v, v})
	}
	d.Weights = append(d.Weights, Weight{start.Add(-time.Hour), 7})
	d.Blocks = append(d.Blocks, gate.Block{Start: start, End: start, Canary: gate.Arm{Requests: 5, Errors: 9}}, gate.Block{Start: start.Add(time.Hour), End: start})
	page := render(t, d)
	if bad := regexp.MustCompile(`NaN|[+-]Inf|width="-`).FindString(page); bad != "" {
		t.Errorf("the page holds %s", bad)
	}
	for _, d := range []Data{{}, {Blocks: make([]gate.Block, 1)}, {Evidence: make([]Point, 1)}, {Weights: make([]Weight, 1)}} {
		render(t, d)
	}
}

func TestWhatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	if err := Write(filepath.Join(dir, "x", "report.html"), Data{}); err == nil {
		t.Error("a missing directory was accepted")
	}
	for _, alpha := range []float64{-1, 1, 2, math.NaN()} {
		if err := Write(filepath.Join(dir, "report.html"), Data{Alpha: alpha}); err == nil {
			t.Errorf("alpha %v was accepted", alpha)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
