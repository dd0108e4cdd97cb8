package gate

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// reference is what testdata/reference.py prints.
type reference struct {
	Tilts []struct {
		Nc, Nb, K, Omega float64
		LogS             float64 `json:"log_s"`
	}
	Run struct {
		Tables   [][4]uint64
		Divisors []float64
		Fail     []float64
		Pass     float64
	}
}

func readReference(t *testing.T) (r reference) {
	t.Helper()
	data, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Tilts) < 100 || len(r.Run.Tables) < 100 {
		t.Fatalf("only %d sums and %d tables to compare with", len(r.Tilts), len(r.Run.Tables))
	}
	return r
}

func closeTo(got, want float64) bool { return math.Abs(got-want) <= 1e-9*max(1, math.Abs(want)) }

func TestSumsAgreeWithAnIndependentProgram(t *testing.T) {
	for _, x := range readReference(t).Tilts {
		kc := min(uint64(x.K), uint64(x.Nc))
		got := logTilt(table{uint64(x.Nc), uint64(x.Nb), kc, uint64(x.K) - kc}, x.Omega)
		if !closeTo(got, x.LogS) {
			t.Errorf("ln S(%g) of n %g/%g K %g = %.15g, want %.15g", x.Omega, x.Nc, x.Nb, x.K, got, x.LogS)
		}
	}
}

func TestARunAgreesWithAnIndependentProgram(t *testing.T) {
	run := readReference(t).Run
	c := newComparison(Config{}.withDefaults(), passRule{odds: DefaultOddsRatio})
	for i, x := range run.Tables {
		if got := c.noise.factor(); !closeTo(got, run.Divisors[i]) {
			t.Fatalf("divisor before block %d = %.15g, want %.15g", i, got, run.Divisors[i])
		}
		at := table{x[0], x[1], x[2], x[3]}
		c.observe(&Block{}, at, at, 1)
	}
	for i, want := range run.Fail {
		if got := c.fail[i].value(); !closeTo(got, want) {
			t.Errorf("ln E at ω %g = %.15g, want %.15g", betOdds[i], got, want)
		}
	}
	if !closeTo(c.pass.log, run.Pass) {
		t.Errorf("ln P = %.15g, want %.15g", c.pass.log, run.Pass)
	}
}

func TestTheReferenceIsWhatItsProgramPrints(t *testing.T) {
	testenv.Need(t, "python3")
	committed, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	printed, err := exec.CommandContext(t.Context(), "python3", "testdata/reference.py").Output()
	if err != nil {
		t.Fatalf("running reference.py: %v", err)
	}
	if diff := cmp.Diff(string(committed), string(printed)); diff != "" {
		t.Errorf("reference.json is stale (-committed +printed):\n%s", diff)
	}
}
