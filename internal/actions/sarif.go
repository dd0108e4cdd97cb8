package actions

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
)

// Finding is one thing that is wrong, for a SARIF log.
type Finding struct {
	Rule string // which rule is broken: "no-denied-packages"
	File string // relative to the checkout
	Line int    // 1 is the first line; 0 is taken for it
	Text string
	Fix  string // what to do about it; may be empty
}

// WriteSARIF writes findings as a log that code scanning reads (SARIF 2.1.0,
// OASIS). No findings make a log without results, which closes the alerts of an
// earlier one.
func WriteSARIF(w io.Writer, version string, findings []Finding) error {
	run := sarifRun{Results: []sarifResult{}}
	run.Tool.Driver = driver{Name: "sluice", Version: version, Rules: []rule{}}
	for _, f := range findings {
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule{ID: f.Rule, Short: message{f.Rule}})
		run.Results = append(run.Results, result(f))
	}
	rules := &run.Tool.Driver.Rules
	slices.SortFunc(*rules, func(a, b rule) int { return cmp.Compare(a.ID, b.ID) })
	*rules = slices.Compact(*rules)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(sarifLog{
		Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run},
	}); err != nil {
		return fmt.Errorf("writing SARIF: %w", err)
	}
	return nil
}

func result(f Finding) sarifResult {
	text := f.Text
	if f.Fix != "" {
		text += "\n" + f.Fix
	}
	r := sarifResult{RuleID: f.Rule, Level: "error", Message: message{text}}
	var l location
	l.Physical.Artifact.URI = filepath.ToSlash(f.File)
	l.Physical.Region.StartLine = max(f.Line, 1)
	r.Locations = []location{l}
	return r
}

// The parts of a SARIF log that code scanning reads.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool struct {
			Driver driver `json:"driver"`
		} `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	driver struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		Rules   []rule `json:"rules"`
	}
	rule struct {
		ID    string  `json:"id"`
		Short message `json:"shortDescription"`
	}
	sarifResult struct {
		RuleID    string     `json:"ruleId"`
		Level     string     `json:"level"`
		Message   message    `json:"message"`
		Locations []location `json:"locations"`
	}
	message struct {
		Text string `json:"text"`
	}
	location struct {
		Physical struct {
			Artifact struct {
				URI string `json:"uri"`
			} `json:"artifactLocation"`
			Region struct {
				StartLine int `json:"startLine"`
			} `json:"region"`
		} `json:"physicalLocation"`
	}
)
