package wire_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

// same compares what two Statuses say.
func same(t *testing.T, want, got wire.Status) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b probe.Workload) bool { return a == b }), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAStatusSurvivesBothForms(t *testing.T) {
	for name, s := range map[string]wire.Status{"busy": sample(3, 20)} {
		b := wire.Encode([]byte("before"), &s)
		got, err := wire.Decode(b[len("before"):])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		same(t, s, got)
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again wire.Status
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		same(t, s, again)
	}
}
