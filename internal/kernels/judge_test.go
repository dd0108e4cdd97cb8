package main

import (
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/kernels/outcome"
)

func TestOnlyWhatWasPromisedCanBeBroken(t *testing.T) {
	for name, tt := range map[string]struct {
		kernel, needs, err string
		want               status
	}{
		"works where promised":                     {"6.1.0-56-cloud-amd64", "5.10", "", works},
		"works where nobody promised it":           {"5.10.0-46-cloud-amd64", "5.12", "", works},
		"fails on an older kernel":                 {"5.10.0-46-cloud-amd64", "5.12", "no", unsupported},
		"fails on exactly the oldest kernel":       {"5.10.0-46-cloud-amd64", "5.10", "no", broken},
		"fails on a newer kernel":                  {"7.2.13+deb14-cloud-amd64", "6.18", "no", broken},
		"minor versions are numbers, not decimals": {"6.12.1", "6.2", "no", broken},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := judge(tt.kernel, outcome.Outcome{Needs: tt.needs, Error: tt.err})
			if err != nil || got != tt.want {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestAPromiseThatCannotBeReadIsNoExcuse(t *testing.T) {
	for _, needs := range []string{"", "5", "five.ten", "v5.10", ".", "5."} {
		if got, err := judge("6.1.0", outcome.Outcome{Needs: needs, Error: "no"}); err == nil || got != broken {
			t.Errorf("needs %q: got %v, %v; want an error and broken", needs, got, err)
		}
	}
}

func TestTheVerdictNamesWhatIsMissing(t *testing.T) {
	found := column{kernel: kernel{name: "5.10"}, report: report{kernel: "5.10.0", outcomes: []outcome.Outcome{
		{Name: "loads", Needs: "5.10", Error: "refused", Log: []string{"R4 is unbounded"}},
		{Name: "counts", Needs: "5.10", Error: "not tried", After: true},
		{Name: "swaps", Needs: "5.12", Error: "too old"},
		{Name: "attaches", Needs: "5.10"},
	}}}
	var told strings.Builder
	err := verdict(&told, []column{found})
	if err == nil || !strings.Contains(err.Error(), "2 capabilities") {
		t.Errorf("%v, want 2 failures", err)
	}
	for text, want := range map[string]bool{"loads": true, "refused": true, "R4 is unbounded": true, "too old": true, "counts": false, "attaches": false} {
		if strings.Contains(told.String(), text) != want {
			t.Errorf("%q is told: %v, want %v; all of it:\n%s", text, !want, want, told.String())
		}
	}
	found.outcomes = found.outcomes[2:]
	if err := verdict(&told, []column{found}); err != nil {
		t.Errorf("what was not promised is a failure: %v", err)
	}
}
