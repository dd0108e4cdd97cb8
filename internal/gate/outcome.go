package gate

import "fmt"

// Outcome is what a look at a canary can end with. "Don't know" is three
// different things here, and none of them is a pass.
type Outcome int

// The outcomes. The zero value is Inconclusive: not knowing is the default.
const (
	Inconclusive Outcome = iota // the evidence points neither way yet
	NoData                      // a side served nothing that could be measured
	Pass                        // evidence that the canary is not worse than allowed
	Fail                        // evidence that the canary is worse, or breaks an absolute objective
	Invalid                     // the measurement itself cannot be trusted
)

// outcomes holds the name and the exit status of every Outcome.
var outcomes = [...]struct {
	name string
	exit int
}{
	Inconclusive: {"inconclusive", 3},
	NoData:       {"no-data", 4},
	Pass:         {"pass", 0},
	Fail:         {"fail", 1},
	Invalid:      {"invalid", 5},
}

func (o Outcome) known() bool { return o >= 0 && int(o) < len(outcomes) }

// String is "inconclusive", "no-data", "pass", "fail" or "invalid".
func (o Outcome) String() string {
	if !o.known() {
		return fmt.Sprintf("outcome %d", int(o))
	}
	return outcomes[o].name
}

// ExitCode is the exit status of a command that ends with this outcome: 0 for
// Pass, 1 Fail, 3 Inconclusive, 4 NoData, 5 Invalid and anything unknown.
func (o Outcome) ExitCode() int {
	if !o.known() {
		return outcomes[Invalid].exit
	}
	return outcomes[o].exit
}

// MarshalText writes the name. An outcome that does not exist is an error.
func (o Outcome) MarshalText() ([]byte, error) {
	if !o.known() {
		return nil, fmt.Errorf("writing outcome: no outcome %d", int(o))
	}
	return []byte(outcomes[o].name), nil
}

// UnmarshalText reads what MarshalText wrote and nothing else.
func (o *Outcome) UnmarshalText(text []byte) error {
	for i, known := range outcomes {
		if string(text) == known.name {
			*o = Outcome(i)
			return nil
		}
	}
	return fmt.Errorf("reading outcome: unknown outcome %q (known: inconclusive, no-data, pass, fail, invalid)", text)
}
