package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sluice-cd/sluice/bpf"
)

// Paths of a sluice-probe's HTTP API.
const (
	PathSnapshot = "/v1/snapshot" // GET: a Status; as JSON with Accept: application/json
	PathObjects  = "/v1/objects"  // GET: Objects; POST SwapRequest: SwapResult
	PathRollback = "/v1/rollback" // POST: SwapResult
	PathReady    = "/readyz"      // GET: 200 while the probe counts and is the one that was verified
)

// MaxRequest bounds the body of a request: an object of 16 MiB in base64 and its
// bundle.
const MaxRequest = 24 << 20

// Objects is what is loaded and what could be.
type Objects struct {
	Loaded  bpf.Loaded `json:"loaded"`
	History []Object   `json:"history"` // newest first
}

// Object is an eBPF object of the history.
type Object struct {
	Digest bpf.Digest `json:"digest"`
	Time   time.Time  `json:"time"`             // when it came
	Good   bool       `json:"good"`             // it has counted well: a rollback may go back to it
	Bad    string     `json:"bad,omitempty"`    // why nobody should load it again; empty: nothing is known against it
	Signed bool       `json:"signed,omitempty"` // a bundle is kept beside it
}

// SwapRequest asks for another object in the place of the running one.
type SwapRequest struct {
	Object []byte     `json:"object"`
	Bundle []byte     `json:"bundle"`            // the Sigstore bundle, as JSON
	Digest bpf.Digest `json:"digest"`            // of the object, as the sender knows it
	Force  bool       `json:"force,omitempty"`   // take it, too, if it was found bad, or if that cannot be known or recorded
	DryRun bool       `json:"dry_run,omitempty"` // do everything but put it in place and write the history
}

// SwapResult says what runs now; after a dry run, what would.
type SwapResult struct {
	Digest   bpf.Digest    `json:"digest"`
	Previous bpf.Digest    `json:"previous"`
	Took     time.Duration `json:"took_nanos"` // from the last request counted by the old one to the new one in every place
}

// Error is what a sluice-probe answers instead of what was asked for, and what
// a Client returns for it.
type Error struct {
	Status  int    `json:"-"`     // HTTP status
	Message string `json:"error"` // one line
	Advice  string `json:"hint,omitempty"`
}

func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("the probe answered %d %s", e.Status, http.StatusText(e.Status))
	}
	return e.Message
}

// Hint says what to try; empty if the server knows nothing.
func (e *Error) Hint() string { return e.Advice }

// WriteError answers a request by an error as JSON, with the advice of its
// Hint method if it has one.
func WriteError(w http.ResponseWriter, status int, err error) {
	e := Error{Message: err.Error()}
	var adviser interface{ Hint() string }
	if errors.As(err, &adviser) {
		e.Advice = adviser.Hint()
	}
	body, _ := json.Marshal(e) // strings only: it cannot fail
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // who asked may be gone
}
