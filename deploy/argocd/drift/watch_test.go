package drift

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// look is one step of a watch: a change of the view before it, and what is said.
type look struct {
	after  time.Duration
	change func(*View)
	want   string // changes, as "+view where" and "-view where took"
}

func TestWatch(t *testing.T) {
	nothing := func(*View) {}
	scale := func(n int) func(*View) { return func(v *View) { v.Canary.Replicas = n } }
	for name, tt := range map[string]struct {
		looks []look
		sum   string
	}{
		"nothing happens": {[]look{{0, nothing, ""}, {2 * time.Second, nothing, ""}}, "2 looks in 2s: 0 differences, 0 mended"},
		"a difference comes and goes": {[]look{
			{0, nothing, ""},
			{2 * time.Second, scale(1), "+live deployment shop-canary replicas"},
			{2 * time.Second, nothing, ""},
			{2 * time.Second, scale(0), "-live deployment shop-canary replicas 4s 6s"},
		}, "4 looks in 6s: 1 difference, 1 mended (median 4s, longest 4s)"},
		"one that grows is the same": {[]look{
			{0, scale(1), "+live deployment shop-canary replicas"}, {2 * time.Second, scale(3), ""}, {time.Second, scale(0), "-live deployment shop-canary replicas 3s 3s"},
		}, "3 looks in 3s: 1 difference, 1 mended (median 3s, longest 3s)"},
		"one that stays is open": {[]look{{0, scale(1), "+live deployment shop-canary replicas"}, {time.Second, nothing, ""}}, "2 looks in 1s: 1 difference, 0 mended; 1 still open"},
		"one that comes again counts twice": {[]look{
			{0, scale(1), "+live deployment shop-canary replicas"},
			{time.Second, scale(0), "-live deployment shop-canary replicas 1s 1s"},
			{time.Second, scale(1), "+live deployment shop-canary replicas"},
			{9 * time.Second, scale(0), "-live deployment shop-canary replicas 9s 10s"},
		}, "4 looks in 11s: 2 differences, 2 mended (median 1s, longest 9s)"},
		"a probe that falls silent has not mended anything": {[]look{
			{0, func(v *View) { v.Probes[0].Mismatch = "x" }, "+probes node a kernel"},
			{time.Second, func(v *View) { v.Probes[0] = Probe{Node: "a", Ready: true, Silent: "timeout"} }, "+probes node a object"},
			{time.Second, func(v *View) { v.Probes[0] = Probe{Node: "a", Ready: true, Object: object} }, "-probes node a kernel 2s 2s\n-probes node a object 1s 2s"},
		}, "3 looks in 2s: 1 difference, 1 mended (median 2s, longest 2s); evidence was missing 1 time"},
		"a silent probe does not keep another node's open": {[]look{
			{0, func(v *View) { v.Probes[0].Mismatch, v.Probes[1].Silent = "x", "timeout" }, "+probes node a kernel\n+probes node b object"},
			{time.Second, func(v *View) { v.Probes[0].Mismatch = "" }, "-probes node a kernel 1s 1s"},
		}, "2 looks in 1s: 1 difference, 1 mended (median 1s, longest 1s); evidence was missing 1 time; 1 still open"},
		"a sync that hides a difference has not mended it": {[]look{
			{0, scale(1), "+live deployment shop-canary replicas"},
			{time.Second, func(v *View) { v.ArgoCD.Operating = true }, ""},
			{time.Second, func(v *View) { v.ArgoCD.Operating, v.Canary.Replicas = false, 0 }, "-live deployment shop-canary replicas 2s 2s"},
		}, "3 looks in 2s: 1 difference, 1 mended (median 2s, longest 2s)"},
		"git that cannot be read has not mended git": {[]look{
			{0, func(v *View) { v.ArgoCD.Revision = older }, "+git revision of branch main"},
			{time.Second, func(v *View) { v.Git, v.Missing = nil, []Missing{{View: InGit, Where: "repository", Why: "away"}} }, "+git repository"},
			{time.Second, func(v *View) {
				v.Missing, v.Git, v.ArgoCD.Revision = nil, &Git{Name: "branch main", Commit: head}, head
			}, "-git revision of branch main 2s 2s\n-git repository 1s 2s"},
		}, "3 looks in 2s: 1 difference, 1 mended (median 2s, longest 2s); evidence was missing 1 time"},
	} {
		t.Run(name, func(t *testing.T) {
			var w Watch
			v := atRest()
			for i, l := range tt.looks {
				v.At = v.At.Add(l.after)
				l.change(&v)
				var said []string
				for _, c := range w.Look(v) {
					line := "+" + c.What.View + " " + c.What.Where
					if c.Mended {
						line = fmt.Sprintf("-%s %s %v %v", c.What.View, c.What.Where, c.Took, c.AtMost)
					}
					said = append(said, line)
				}
				if got := strings.Join(said, "\n"); got != l.want {
					t.Errorf("look %d: got\n%s\nwant\n%s", i+1, got, l.want)
				}
			}
			if got := w.Summary().String(); got != tt.sum {
				t.Errorf("got  %s\nwant %s", got, tt.sum)
			}
		})
	}
}

func TestAChangeInWords(t *testing.T) {
	d := Difference{Drift, Live, "job shop-gate", "ended", "running", ByPerson, "delete it"}
	for want, c := range map[string]Change{
		"12:00:00  drift    live    job shop-gate: want ended, got running — a person: delete it": {At: noon, What: d},
		"12:00:00  mended   live job shop-gate after 4s (at most 6s)":                             {At: noon, What: d, Mended: true, Took: 4 * time.Second, AtMost: 6 * time.Second},
	} {
		if got := c.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
