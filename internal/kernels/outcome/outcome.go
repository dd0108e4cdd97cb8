// Package outcome is what the program inside a virtual machine tells the one
// outside: one JSON object a line, over a serial port.
package outcome

import (
	"encoding/json"
	"fmt"
	"io"
)

// Outcome is what came of trying one capability.
type Outcome struct {
	Name  string   `json:"name"`            // "probe: HTTP/1.1 over IPv6"
	Needs string   `json:"needs"`           // the oldest kernel that is promised to have it: "5.10"
	Error string   `json:"error,omitempty"` // why it does not work; empty if it does
	Log   []string `json:"log,omitempty"`   // the end of the verifier's log, where there is one
	After bool     `json:"after,omitempty"` // not tried, because something before it does not work
}

// Line is one line: the first has Kernel, the last Done, each between an
// Outcome.
type Line struct {
	Kernel  string   `json:"kernel,omitempty"` // uname -r
	Outcome *Outcome `json:"outcome,omitempty"`
	Done    bool     `json:"done,omitempty"`
}

// Write writes one line.
func Write(w io.Writer, l Line) error {
	if err := json.NewEncoder(w).Encode(l); err != nil {
		return fmt.Errorf("telling an outcome: %w", err)
	}
	return nil
}
