package operation

import (
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
)

// TestTheRulesAreThoseOfTheTable holds the states of an Application against what
// the Dagger module makes of them, which has the table.
func TestTheRulesAreThoseOfTheTable(t *testing.T) {
	raw, err := os.ReadFile("../../../ci/argocd/testdata/applications.json")
	if err != nil {
		t.Fatal(err)
	}
	var table []struct {
		Name        string
		Application v1alpha1.Application
		Busy, Same  bool // of a sync of v1.2.0
		Ended       *Result
	}
	if err := json.Unmarshal(raw, &table); err != nil {
		t.Fatal(err)
	}
	for _, tt := range table {
		t.Run(tt.Name, func(t *testing.T) {
			app := &tt.Application
			f := follower{Request: Request{Revision: "v1.2.0"}, report: func(string) {}, said: map[string]bool{}}
			if busy(app) != tt.Busy || tt.Busy && (f.same(app) != tt.Same || new(follower).same(app)) {
				t.Errorf("busy %v, same %v", busy(app), f.same(app))
			}
			state := app.Status.OperationState
			if ended := !busy(app) && state != nil && state.Phase.Completed(); ended != (tt.Ended != nil) {
				t.Fatalf("ended: %v", ended)
			}
			if tt.Ended == nil {
				return
			}
			got, err := f.ended(app)
			var failed *FailedError
			if errors.As(err, &failed) != (got.Phase != "Succeeded") {
				t.Errorf("%s: %v", got.Phase, err)
			}
			if got.Took = 0; got != *tt.Ended {
				t.Errorf("got %+v, want %+v", got, *tt.Ended)
			}
		})
	}
}
