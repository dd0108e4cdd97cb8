package sign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
)

const statementType = "https://in-toto.io/Statement/v1"

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Subject is an artifact that a statement is about, or a material that a
// build used.
type Subject struct {
	Name   string // for people; not checked
	SHA256 string // 64 lower-case hexadecimal digits
}

// Statement is what an attestation signs: a predicate about subjects
// (in-toto Attestation Framework, Statement v1).
type Statement struct {
	Subjects      []Subject // at least one
	PredicateType string    // a URI; see the Predicate constants
	Predicate     any       // marshals to a JSON object; a json.RawMessage will do
}

type resource struct {
	Name   string            `json:"name,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
}

func (s Subject) resource() (resource, error) {
	if !sha256Hex.MatchString(s.SHA256) {
		return resource{}, fmt.Errorf("%q of %s is no SHA-256 (64 lower-case hexadecimal digits)", s.SHA256, s.Name)
	}
	return resource{Name: s.Name, Digest: map[string]string{"sha256": s.SHA256}}, nil
}

func (s Statement) marshal() ([]byte, error) {
	if s.PredicateType == "" {
		return nil, errors.New("no predicate type")
	}
	if len(s.Subjects) == 0 {
		return nil, errors.New("no subject")
	}
	out := struct {
		Type          string          `json:"_type"`
		Subject       []resource      `json:"subject"`
		PredicateType string          `json:"predicateType"`
		Predicate     json.RawMessage `json:"predicate"`
	}{Type: statementType, PredicateType: s.PredicateType}
	for _, subject := range s.Subjects {
		r, err := subject.resource()
		if err != nil {
			return nil, err
		}
		out.Subject = append(out.Subject, r)
	}
	predicate, err := json.Marshal(s.Predicate)
	if err != nil {
		return nil, fmt.Errorf("encoding the predicate: %w", err)
	}
	if !bytes.HasPrefix(predicate, []byte("{")) {
		return nil, errors.New("the predicate is no JSON object")
	}
	out.Predicate = predicate
	raw, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encoding the statement: %w", err)
	}
	if len(raw) > maxAttestation/2 { // base64 makes it a third longer
		return nil, fmt.Errorf("the statement has %d bytes, more than a verifier accepts (%d)", len(raw), maxAttestation/2)
	}
	return raw, nil
}
