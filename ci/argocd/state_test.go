package argocd

import (
	"encoding/json"
	"os"
	"testing"
)

// TestTheRulesAreThoseOfTheTable holds the states of an application against what
// deploy/argocd/operation makes of them, which reads the same table.
func TestTheRulesAreThoseOfTheTable(t *testing.T) {
	raw, err := os.ReadFile("testdata/applications.json")
	if err != nil {
		t.Fatal(err)
	}
	var table []struct {
		Name        string
		Application state
		Busy, Same  bool // of a sync of v1.2.0
		Ended       *Result
	}
	if err := json.Unmarshal(raw, &table); err != nil {
		t.Fatal(err)
	}
	for _, tt := range table {
		t.Run(tt.Name, func(t *testing.T) {
			s := tt.Application
			if s.busy() != tt.Busy || tt.Busy && (s.same("v1.2.0") != tt.Same || s.same("")) {
				t.Errorf("busy %v, same %v", s.busy(), s.same("v1.2.0"))
			}
			var none state
			if ended := s.done(none.previous()); ended != (tt.Ended != nil) {
				t.Fatalf("ended: %v", ended)
			}
			if tt.Ended != nil && s.result() != *tt.Ended {
				t.Errorf("got %+v, want %+v", s.result(), *tt.Ended)
			}
		})
	}
}
