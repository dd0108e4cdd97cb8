// Package outcome reads what sluice printed as JSON and says what an exit status
// means. A result that cannot be read is an error, never a pass.
package outcome

import (
	"encoding/json"
	"fmt"
)

// Step is one step of a run.
type Step struct {
	Name    string  `json:"step"`
	Status  string  `json:"status"`
	Summary string  `json:"summary"`
	Seconds float64 `json:"seconds"`
}

// Rollout is the result of sluice deploy or sluice run.
type Rollout struct {
	Version string `json:"version"`
	Outcome string `json:"outcome"` // promoted, rolled-back, refused …
	Verdict string `json:"verdict"` // the gate's word; empty if it was never asked
	Trigger string `json:"trigger"`
	Reason  string `json:"reason"`
	Error   string `json:"error"`
	Steps   []Step `json:"steps"`
}

// ParseRollout reads what sluice deploy -o json printed.
func ParseRollout(text string) (Rollout, error) {
	var r Rollout
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, fmt.Errorf("reading the result of the rollout: %w", err)
	}
	if r.Version == "" {
		return r, fmt.Errorf("reading the result of the rollout: it names no version")
	}
	return r, nil
}

// Release is the manifest that sluice publish returned.
type Release struct {
	Version string
	Image   string // digest
	JSON    string
	Steps   []Step
}

// ParseRelease reads what sluice publish -o json printed.
func ParseRelease(text string) (Release, error) {
	var out struct {
		Result json.RawMessage `json:"result"`
		Steps  []Step          `json:"steps"`
	}
	var head struct{ Version, Image string }
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return Release{}, fmt.Errorf("reading the release manifest: %w", err)
	}
	if len(out.Result) > 0 {
		if err := json.Unmarshal(out.Result, &head); err != nil {
			return Release{}, fmt.Errorf("reading the release manifest: %w", err)
		}
	}
	if head.Version == "" {
		return Release{}, fmt.Errorf("reading the release manifest: it names no version")
	}
	return Release{Version: head.Version, Image: head.Image, JSON: string(out.Result), Steps: out.Steps}, nil
}

// Verdict is what sluice's exit status says.
func Verdict(status int) string {
	switch status {
	case 0:
		return "pass"
	case 1:
		return "fail"
	case 3:
		return "inconclusive"
	case 4:
		return "no-data"
	case 5:
		return "invalid"
	}
	return "broken" // usage, configuration, environment, interrupted
}

// Summary is what a step said of itself, in what sluice printed with -o json.
func Summary(text, step string) (string, error) {
	var out struct{ Steps []Step }
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return "", fmt.Errorf("reading the result of %s: %w", step, err)
	}
	for _, s := range out.Steps {
		if s.Name == step && s.Summary != "" {
			return s.Summary, nil
		}
	}
	return "", fmt.Errorf("reading the result of %s: it says nothing of that step", step)
}
