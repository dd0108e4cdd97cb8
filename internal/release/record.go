package release

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Outcome says how a rollout ended. It is empty while the rollout runs.
type Outcome string

// The three ways in which a rollout can end.
const (
	Promoted   Outcome = "promoted"
	RolledBack Outcome = "rolled-back"
	Refused    Outcome = "refused" // it never got any traffic
)

// Trigger says what ended a rollout that was not promoted. It is empty when
// nothing did: the release was promoted, or there was no verdict in time.
type Trigger string

// What can set off a rollback or a refusal.
const (
	SLO          Trigger = "slo"           // the gate's verdict was fail
	HashMismatch Trigger = "hash-mismatch" // what runs in the kernel is not what was signed
	Signature    Trigger = "signature"     // a signature is missing or wrong
	Crash        Trigger = "crash"         // the version died; on one machine also sluice itself
	Death        Trigger = "sluice-died"   // sluice died, or its pod was taken away; the version is not to blame
	Environment  Trigger = "environment"   // what a rollout needs was missing or was changed: rights, objects, weights; the version is not to blame
	Operator     Trigger = "operator"      // a person asked for it
)

// The words that a record may hold; verdicts are those of the gate.
var (
	outcomes = []Outcome{Promoted, RolledBack, Refused}
	triggers = []Trigger{"", SLO, HashMismatch, Signature, Crash, Death, Environment, Operator}
	verdicts = []string{"", "inconclusive", "no-data", "pass", "fail", "invalid"}
)

// Rollout is what is known when a rollout starts.
type Rollout struct {
	ID        int       `json:"id"` // 1, 2, 3 …, given by Ledger.Start
	Name      string    `json:"name"`
	Version   string    `json:"version"`
	Digest    string    `json:"digest,omitempty"` // of the release manifest
	Image     string    `json:"image,omitempty"`  // its digest, or a reference that ends with @ and the digest
	Object    string    `json:"object,omitempty"` // digest of the eBPF object
	Gate      string    `json:"gate,omitempty"`   // digest of the gate's configuration
	Env       string    `json:"env,omitempty"`    // the environment: "local", "production"
	Commit    string    `json:"commit,omitempty"`
	Committed time.Time `json:"committed,omitzero"` // when, for the lead time for changes
	Previous  string    `json:"previous,omitempty"` // the version that gets the traffic back in a rollback
	Operator  string    `json:"operator,omitempty"` // who asked for this rollback by hand; empty for a release
	Started   time.Time `json:"started"`
}

// Timeline holds the moments of a rollback; one that did not come is zero.
type Timeline struct {
	Breach   time.Time `json:"breach,omitzero"`   // first bad request that the canary served
	Evidence time.Time `json:"evidence,omitzero"` // first block that spoke against the canary
	Verdict  time.Time `json:"verdict,omitzero"`  // the gate had seen enough
	Traffic  time.Time `json:"traffic,omitzero"`  // from here the canary got no new connection
}

// Requests counts what each arm answered while the rollout ran.
type Requests struct {
	Stable uint64 `json:"stable"`
	Canary uint64 `json:"canary"`
}

// Result is what is known when a rollout has ended.
type Result struct {
	Outcome  Outcome   `json:"outcome"`
	Verdict  string    `json:"verdict"` // the gate's word, empty if it was never asked
	Trigger  Trigger   `json:"trigger"`
	Reason   string    `json:"reason,omitempty"` // one sentence for a person
	Ended    time.Time `json:"ended,omitzero"`
	Timeline Timeline  `json:"timeline,omitzero"`
	Requests Requests  `json:"requests"`
}

// Forgotten says that the verdict of a rollout does not count any more, so that
// the same image may be rolled out again.
type Forgotten struct {
	Operator string    `json:"operator"` // who said so
	Reason   string    `json:"reason,omitempty"`
	At       time.Time `json:"at"`
}

// Record is one rollout of the history: start and end merged. Its JSON is a
// contract that other programs rely on.
//
// A rollback by an operator is a record of its own: Version is the release that
// was withdrawn, Previous the one that serves instead.
type Record struct {
	Rollout
	Result
	BreachToTrafficMS *int64     `json:"breach_to_traffic_ms"` // null when nothing was breached or no traffic moved
	Forgotten         *Forgotten `json:"forgotten,omitempty"`
	Prev              string     `json:"prev"` // hash of the ledger line before Hash's
	Hash              string     `json:"hash"` // hash of the record's last line so far
}

// Finished reports whether the rollout has ended.
func (r Record) Finished() bool { return r.Outcome != "" }

// breachToTraffic is in milliseconds. It is 0, not negative, when the traffic
// had moved before the first bad answer was out.
func (t Timeline) breachToTraffic() *int64 {
	if t.Breach.IsZero() || t.Traffic.IsZero() {
		return nil
	}
	ms := max(0, t.Traffic.Sub(t.Breach).Round(time.Millisecond).Milliseconds())
	return &ms
}

func (t Timeline) utc() Timeline {
	return Timeline{utc(t.Breach), utc(t.Evidence), utc(t.Verdict), utc(t.Traffic)}
}

// utc is t as it is stored: without a zone and without a monotonic reading.
func utc(t time.Time) time.Time { return t.Round(0).UTC() }

func (r Rollout) check() error {
	switch {
	case r.Name == "":
		return errors.New("rollout has no name")
	case !ValidVersion(r.Version):
		return fmt.Errorf("version %q is not a Semantic Versioning 2.0.0 version", r.Version)
	case r.Previous != "" && !ValidVersion(r.Previous):
		return fmt.Errorf("previous version %q is not a Semantic Versioning 2.0.0 version", r.Previous)
	case r.Started.IsZero():
		return errors.New("rollout has no start time")
	}
	return nil
}

func (f Forgotten) check(r Record) error {
	switch {
	case f.Operator == "":
		return errors.New("nobody is named who forgets the verdict")
	case f.At.IsZero():
		return errors.New("forgetting has no time")
	case !r.Finished():
		return fmt.Errorf("rollout %d has not ended: it has no verdict to forget", r.ID)
	case r.Forgotten != nil:
		return fmt.Errorf("the verdict of rollout %d was forgotten before", r.ID)
	}
	return nil
}

func (r Result) check() error {
	switch {
	case !slices.Contains(outcomes, r.Outcome):
		return fmt.Errorf("unknown outcome %q (known: %q)", r.Outcome, outcomes)
	case !slices.Contains(triggers, r.Trigger):
		return fmt.Errorf("unknown trigger %q (known: %q)", r.Trigger, triggers)
	case !slices.Contains(verdicts, r.Verdict):
		return fmt.Errorf("unknown verdict %q (known: %q)", r.Verdict, verdicts)
	case r.Ended.IsZero():
		return errors.New("result has no end time")
	}
	return nil
}
