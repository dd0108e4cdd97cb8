package admit

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/internal/sign"
)

// demand is a statement that has to be there.
type demand struct {
	what      string // for people
	predicate string
	subjects  []string // SHA-256 of everything that it has to be about
}

// find returns the predicate of the first bundle that meets a demand.
func (a *admission) find(bundles [][]byte, want demand) (json.RawMessage, error) {
	problem, why := Unsigned, errors.New("there is none in the registry")
	for _, b := range bundles {
		if !claims(b, want.predicate) {
			continue
		}
		predicate, err := a.holds(b, want)
		if err == nil {
			a.evidence.Checked = append(a.evidence.Checked, want.what)
			return predicate, nil
		}
		if p := blame(err); p != Foreign || problem == Unsigned {
			problem, why = p, err // one of our own says more than one of somebody else
		}
	}
	return nil, &Error{Problem: problem, Ref: a.ref, What: want.what, Err: why}
}

// holds asks every verifier. The error is that of the one that got furthest.
func (a *admission) holds(bundle []byte, want demand) (predicate json.RawMessage, err error) {
	err = errors.New("nobody was named who may have signed")
	for i, v := range a.Verifiers {
		var refused error
		for _, subject := range want.subjects {
			if predicate, refused = v.Attestation(bundle, subject, want.predicate); refused != nil {
				break
			}
		}
		if refused == nil {
			return predicate, nil
		}
		if i == 0 || blame(err) == Foreign {
			err = refused
		}
	}
	return nil, err
}

// blame is the problem that a verifier found.
func blame(err error) Problem {
	var refused *sign.VerifyError
	if !errors.As(err, &refused) {
		return Foreign
	}
	switch refused.What {
	case "subject":
		return Unrelated
	case "key", "signature":
		return Foreign
	}
	return Damaged
}

// claims reports whether a bundle says of itself that it holds a statement of
// this type. It only chooses which ones to verify: there may be many.
func claims(bundle []byte, predicate string) bool {
	var b struct {
		Envelope struct {
			Payload []byte `json:"payload"`
		} `json:"dsseEnvelope"`
	}
	var s struct {
		PredicateType string `json:"predicateType"`
	}
	return json.Unmarshal(bundle, &b) == nil && json.Unmarshal(b.Envelope.Payload, &s) == nil && s.PredicateType == predicate
}

// bare is a digest without its algorithm.
func bare(digest string) string { return strings.TrimPrefix(digest, "sha256:") }

// sortedOnce is a list without repetitions, in order.
func sortedOnce(list []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}

// refuse makes an error of a problem.
func (a *admission) refuse(p Problem, what, format string, args ...any) error {
	return &Error{Problem: p, Ref: a.ref, What: what, Err: fmt.Errorf(format, args...)}
}
