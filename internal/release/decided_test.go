package release

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhichVerdictHolds(t *testing.T) {
	const image, other = "registry.example.com/shop:1.2.0@sha256:" + abc, "sha256:dddd"
	rec := func(change func(*Record)) Record {
		r := Record{Rollout: Rollout{Version: "1.2.0", Image: image, Gate: "g1"}, Result: Result{Outcome: RolledBack, Verdict: "fail", Trigger: SLO}}
		change(&r)
		return r
	}
	as := func(id int, o Outcome, verdict string, trigger Trigger) Record {
		return rec(func(r *Record) { r.ID, r.Outcome, r.Verdict, r.Trigger = id, o, verdict, trigger })
	}
	fail := as(1, RolledBack, "fail", SLO)
	gone := rec(func(r *Record) { r.ID, r.Forgotten = 1, &Forgotten{Operator: "ann"} })
	for name, tt := range map[string]struct {
		history     []Record
		image, gate string
		want        int // id, 0: none
	}{
		"nothing yet":                               {nil, image, "g1", 0},
		"fail":                                      {[]Record{fail}, image, "g1", 1},
		"pass":                                      {[]Record{as(1, Promoted, "pass", "")}, image, "g1", 1},
		"inconclusive at the deadline":              {[]Record{as(1, RolledBack, "inconclusive", "")}, image, "g1", 1},
		"no data at the deadline":                   {[]Record{as(1, RolledBack, "no-data", "")}, image, "g1", 1},
		"invalid":                                   {[]Record{as(1, RolledBack, "invalid", HashMismatch)}, image, "g1", 1},
		"the version crashed":                       {[]Record{as(1, RolledBack, "fail", Crash)}, image, "g1", 1},
		"refused by the gate's word":                {[]Record{as(1, Refused, "invalid", Signature)}, image, "g1", 1},
		"refused before the gate was asked":         {[]Record{as(1, Refused, "", Signature)}, image, "g1", 0},
		"it ended before the gate had a verdict":    {[]Record{as(1, RolledBack, "", Environment)}, image, "g1", 0},
		"a first release that did not come up":      {[]Record{as(1, RolledBack, "", Crash)}, image, "g1", 0},
		"it still runs":                             {[]Record{as(1, "", "", "")}, image, "g1", 0},
		"an operator interrupted it":                {[]Record{as(1, RolledBack, "", Operator)}, image, "g1", 0},
		"sluice died":                               {[]Record{as(1, RolledBack, "invalid", Death)}, image, "g1", 0},
		"sluice died, and before that it failed":    {[]Record{fail, as(2, RolledBack, "", Death)}, image, "g1", 1},
		"the newest counts":                         {[]Record{fail, as(2, Promoted, "pass", "")}, image, "g1", 2},
		"it is forgotten":                           {[]Record{gone}, image, "g1", 0},
		"forgotten with all before":                 {[]Record{as(5, Promoted, "pass", ""), gone}, image, "g1", 0},
		"forgotten and then decided again":          {[]Record{gone, as(2, RolledBack, "fail", SLO)}, image, "g1", 2},
		"another registry and tag, the same digest": {[]Record{fail}, "mirror.example.com/x/shop:latest@sha256:" + abc, "g1", 1},
		"only the digest":                           {[]Record{fail}, "sha256:" + abc, "g1", 1},
		"another image":                             {[]Record{fail}, other, "g1", 0},
		"another gate":                              {[]Record{fail}, image, "g2", 0},
		"a tag alone is no image":                   {[]Record{rec(func(r *Record) { r.Image = "shop:1.2.0" })}, "shop:1.2.0", "g1", 0},
		"no gate, as in old ledgers":                {[]Record{rec(func(r *Record) { r.Gate = "" })}, image, "", 0},
		"what an operator did is no verdict":        {[]Record{rec(func(r *Record) { r.Rollout.Operator = "ann" })}, image, "g1", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r, ok := Decided(tt.history, tt.image, tt.gate)
			if ok != (tt.want != 0) || r.ID != tt.want {
				t.Errorf("got rollout %d, %v; want %d", r.ID, ok, tt.want)
			}
		})
	}
}

func TestForgettingAVerdict(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	l := open(t, path)
	first := rollout("v1.0.0")
	first.Image, first.Gate = "sha256:"+abc, "g1"
	id, err := l.Start(first)
	if err != nil {
		t.Fatal(err)
	}
	word := Forgotten{Operator: "ann", Reason: "the database was down", At: noon}
	if err := l.Forget(id, word); err == nil || !strings.Contains(err.Error(), "has not ended") {
		t.Errorf("a rollout that runs: %v", err)
	}
	if err := l.Finish(id, Result{Outcome: RolledBack, Verdict: "fail", Trigger: SLO, Ended: noon}); err != nil {
		t.Fatal(err)
	}
	if _, ok := Decided(l.Records(), first.Image, "g1"); !ok {
		t.Error("the verdict does not hold")
	}
	for name, tt := range map[string]struct {
		id   int
		f    Forgotten
		want string
	}{
		"nobody says so":     {id, Forgotten{At: noon}, "nobody"},
		"no time":            {id, Forgotten{Operator: "ann"}, "no time"},
		"an unknown rollout": {7, word, "never started"},
	} {
		if err := l.Forget(tt.id, tt.f); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	if err := l.Forget(id, word); err != nil {
		t.Fatal(err)
	}
	if err := l.Forget(id, word); err == nil || !strings.Contains(err.Error(), "forgotten before") {
		t.Errorf("twice: %v", err)
	}
	l.Close()
	history, err := ReadHistory(path)
	if err != nil || len(history) != 1 {
		t.Fatal(history, err)
	}
	if diff := cmp.Diff(&word, history[0].Forgotten); diff != "" {
		t.Error(diff)
	}
	if _, ok := Decided(history, first.Image, "g1"); ok {
		t.Error("the verdict still holds")
	}
}

// A ledger as it was written before rollouts had a gate: bytes, not code.
const old = `{"prev":"0000000000000000000000000000000000000000000000000000000000000000","id":1,"started":{"id":1,"name":"shop","version":"v1.0.0","image":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","started":"2025-03-01T12:00:00Z"},"hash":"OLD1"}
`

func TestOldLedgersStayReadable(t *testing.T) {
	body, _, _ := strings.Cut(old, `,"hash"`)
	raw := strings.Replace(old, "OLD1", hashOf([]byte(body)), 1)
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	writeFile(t, path, raw)
	l := open(t, path)
	if err := l.Finish(1, promoted()); err != nil {
		t.Fatal(err)
	}
	r := l.Records()[0]
	if r.Gate != "" || r.Outcome != Promoted {
		t.Errorf("%+v", r)
	}
	if _, ok := Decided(l.Records(), r.Image, ""); ok {
		t.Error("a verdict without a gate holds for a gate nobody knows")
	}
}

func TestTheLedgerInAFileIsALog(t *testing.T) {
	log := open(t, filepath.Join(t.TempDir(), "ledger.jsonl")).Log()
	checkLog(t, log)
}
