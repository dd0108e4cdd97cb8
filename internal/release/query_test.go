package release

import "testing"

func TestWhatServesAndWhatToGoBackTo(t *testing.T) {
	good := func(v string) Record { return Record{Rollout: Rollout{Version: v}, Result: Result{Outcome: Promoted}} }
	bad := func(v string) Record {
		return Record{Rollout: Rollout{Version: v}, Result: Result{Outcome: RolledBack, Trigger: SLO}}
	}
	back := func(from, to string) Record {
		return Record{Rollout: Rollout{Version: from, Previous: to}, Result: Result{Outcome: RolledBack, Trigger: Operator}}
	}
	runs := func(v string) Record { return Record{Rollout: Rollout{Version: v}} }
	for name, tt := range map[string]struct {
		history         []Record
		running, before string
	}{
		"nothing yet":                            {nil, "", ""},
		"the first is still running its rollout": {[]Record{runs("1.0.0")}, "", ""},
		"one good release":                       {[]Record{good("1.0.0")}, "1.0.0", ""},
		"a failed canary changes nothing":        {[]Record{good("1.0.0"), bad("1.1.0")}, "1.0.0", ""},
		"a refused one neither": {
			[]Record{good("1.0.0"), good("1.1.0"), {Rollout: Rollout{Version: "1.2.0"}, Result: Result{Outcome: Refused}}},
			"1.1.0", "1.0.0",
		},
		"a canary is out":              {[]Record{good("1.0.0"), good("1.1.0"), runs("1.2.0")}, "1.1.0", "1.0.0"},
		"the operator goes back":       {[]Record{good("1.0.0"), good("1.1.0"), back("1.1.0", "1.0.0")}, "1.0.0", ""},
		"and back again":               {[]Record{good("1.0.0"), good("1.1.0"), good("1.2.0"), back("1.2.0", "1.1.0"), back("1.1.0", "1.0.0")}, "1.0.0", ""},
		"the operator skips a release": {[]Record{good("1.0.0"), good("1.1.0"), good("1.2.0"), back("1.2.0", "1.0.0")}, "1.0.0", ""},
		"and goes forward to it":       {[]Record{good("1.0.0"), good("1.1.0"), good("1.2.0"), back("1.2.0", "1.0.0"), back("1.0.0", "1.1.0")}, "1.1.0", ""},
		"a withdrawn one comes again":  {[]Record{good("1.0.0"), good("1.1.0"), back("1.1.0", "1.0.0"), good("1.1.0")}, "1.1.0", "1.0.0"},
		"the same one twice":           {[]Record{good("1.0.0"), good("1.1.0"), good("1.1.0")}, "1.1.0", "1.0.0"},
		"back to what was never here":  {[]Record{good("1.0.0"), back("1.0.0", "0.9.0")}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for what, got := range map[string]struct {
				query func([]Record) (Record, bool)
				want  string
			}{"Running": {Running, tt.running}, "Before": {Before, tt.before}} {
				if r, ok := got.query(tt.history); r.Version != got.want || ok != (got.want != "") {
					t.Errorf("%s is %q, %v; want %q", what, r.Version, ok, got.want)
				}
			}
		})
	}
}
