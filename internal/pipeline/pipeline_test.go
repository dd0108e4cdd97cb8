package pipeline

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fake is a step that says what it did.
type fake struct {
	name string
	err  error
	did  *[]string
}

func (f fake) String() string { return f.name }

func (f fake) Run(context.Context) (string, error) {
	*f.did = append(*f.did, "run "+f.name)
	return f.name + " done", f.err
}

// fakeEnder is a step that always runs.
type fakeEnder struct{ fake }

func (f fakeEnder) End(ctx context.Context, failed error) (string, error) {
	did := "end " + f.name
	if failed != nil {
		did += " after a failure"
	}
	if ctx.Err() != nil {
		did += ", cancelled"
	}
	*f.did = append(*f.did, did)
	return f.name + " done", f.err
}

func TestRun(t *testing.T) {
	bad, worse := errors.New("bad"), errors.New("worse")
	var did []string
	step := func(name string, err error) Step { return fake{name, err, &did} }
	ender := func(name string, err error) Step { return fakeEnder{fake{name, err, &did}} }
	for name, tt := range map[string]struct {
		steps  []Step
		stop   bool // cancelled before it begins
		did    []string
		events []Event
		want   string
		causes []error
	}{
		"every step runs, in order": {
			steps:  []Step{step("a", nil), step("b", nil), ender("c", nil)},
			did:    []string{"run a", "run b", "end c"},
			events: []Event{{Step: "a", Status: Done, Summary: "a done"}, {Step: "b", Status: Done, Summary: "b done"}, {Step: "c", Status: Done, Summary: "c done"}},
		},
		"a skip is no failure": {
			steps:  []Step{step("a", Skip{"nothing to do"}), step("b", nil)},
			did:    []string{"run a", "run b"},
			events: []Event{{Step: "a", Status: Skipped, Summary: "nothing to do"}, {Step: "b", Status: Done, Summary: "b done"}},
		},
		"after a failure only enders run": {
			steps:  []Step{step("a", bad), step("b", nil), ender("c", nil)},
			did:    []string{"run a", "end c after a failure"},
			events: []Event{{Step: "a", Status: Failed, Summary: "bad"}, {Step: "c", Status: Done, Summary: "c done"}},
			want:   "a: bad", causes: []error{bad},
		},
		"failures of enders are added": {
			steps:  []Step{step("a", bad), ender("b", worse), ender("c", nil)},
			did:    []string{"run a", "end b after a failure", "end c after a failure"},
			events: []Event{{Step: "a", Status: Failed, Summary: "bad"}, {Step: "b", Status: Failed, Summary: "worse"}, {Step: "c", Status: Done, Summary: "c done"}},
			want:   "a: bad\nb: worse", causes: []error{bad, worse},
		},
		"an interrupt stops the steps and spares the enders": {
			steps: []Step{step("a", nil), ender("b", nil)}, stop: true,
			did:    []string{"end b after a failure"},
			events: []Event{{Step: "a", Status: Failed, Summary: "context canceled"}, {Step: "b", Status: Done, Summary: "b done"}},
			want:   "a: context canceled", causes: []error{context.Canceled},
		},
	} {
		t.Run(name, func(t *testing.T) {
			did = nil
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.stop {
				cancel()
			}
			var events []Event
			err := Run(ctx, tt.steps, func(e Event) {
				if e.Status != Started {
					events = append(events, e)
				}
			})
			if diff := cmp.Diff(tt.did, did); diff != "" {
				t.Errorf("what was done (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.events, events, cmpopts.IgnoreFields(Event{}, "Took", "Seconds")); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if got := errorText(err); got != tt.want {
				t.Errorf("error %q, want %q", got, tt.want)
			}
			for _, cause := range tt.causes {
				if !errors.Is(err, cause) {
					t.Errorf("%v hides %v", err, cause)
				}
			}
			var failed *StepError
			if tt.want != "" && (!errors.As(err, &failed) || failed.Step != "a") {
				t.Errorf("the error does not name the first step that failed: %v", err)
			}
		})
	}
}

func TestUntilEndsWithTheNamedStep(t *testing.T) {
	steps, ok := Until(Release(Job{}), "image")
	if !ok || len(steps) != 5 || steps[4].String() != "image" {
		t.Errorf("got %v, %v", steps, ok)
	}
	if steps, ok := Until(Release(Job{}), "imagine"); ok || steps != nil {
		t.Errorf("got %v, %v for a step that is not there", steps, ok)
	}
}

func TestListLeavesOutWhatIsEmpty(t *testing.T) {
	for want, parts := range map[string][]string{"": {"", ""}, "a": {"", "a"}, "a, b": {"a", "", "b"}} {
		if got := list(parts...); got != want {
			t.Errorf("list(%q) = %q, want %q", parts, got, want)
		}
	}
}
