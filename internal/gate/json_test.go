package gate_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/gate"
)

func TestOutcomes(t *testing.T) {
	for name, tt := range map[string]struct {
		outcome gate.Outcome
		text    string
		exit    int
	}{
		"the zero value does not know": {gate.Outcome(0), "inconclusive", 3},
		"no data is not a pass":        {gate.NoData, "no-data", 4},
		"a pass is success":            {gate.Pass, "pass", 0},
		"a fail is failure":            {gate.Fail, "fail", 1},
		"invalid is its own":           {gate.Invalid, "invalid", 5},
	} {
		text, err := tt.outcome.MarshalText()
		if err != nil || string(text) != tt.text || tt.outcome.String() != tt.text || tt.outcome.ExitCode() != tt.exit {
			t.Errorf("%s: %q, exit %d, %v", name, text, tt.outcome.ExitCode(), err)
		}
		var read gate.Outcome
		if err := read.UnmarshalText(text); err != nil || read != tt.outcome {
			t.Errorf("%s: read back as %v, %v", name, read, err)
		}
	}
	for _, none := range []gate.Outcome{-1, 5} {
		if _, err := none.MarshalText(); err == nil || none.ExitCode() != 5 {
			t.Errorf("outcome %d has a text or does not count as invalid", int(none))
		}
	}
	var o gate.Outcome
	if err := o.UnmarshalText([]byte("Pass")); err == nil {
		t.Error(`"Pass" is read as an outcome`)
	}
}

func FuzzBlockJSON(f *testing.F) {
	for _, b := range append(blocks(2, usual, 1), gate.Block{Fault: "detached"}) {
		data, err := json.Marshal(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"canary":{"requests":18446744073709551615,"errors":18446744073709551615,"latency":[[833,18446744073709551615]]}}`))
	f.Add([]byte(`{"baseline":{"requests":9,"latency":[[3,9]]},"canary":{"requests":1,"errors":9,"latency":[[0,1]]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var b, again gate.Block
		if json.Unmarshal(data, &b) != nil {
			return
		}
		out, err := json.Marshal(b)
		if err != nil {
			t.Skip("a time that JSON cannot hold")
		}
		if err := json.Unmarshal(out, &again); err != nil || !cmp.Equal(b, again) {
			t.Fatalf("%s does not survive a round trip: %v", out, err)
		}
		v, err := gate.Replay(gate.Config{SLO: gate.SLO{ErrorRatio: 0.01}}, []gate.Block{b, b, b})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := json.Marshal(v); err != nil {
			t.Fatalf("verdict cannot be written: %v", err)
		}
	})
}
