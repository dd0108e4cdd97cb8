// Code generated from ci/enginetest/session.go (UPDATE=1 go test ./internal/engine). DO NOT EDIT.

// Package enginetest is an engine that runs nothing: it writes down what a
// function asks of it, and answers as it was told to.
//
// Importing it starts the one session of a test binary, before the generated
// client looks for it.
package enginetest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
)

// Session is the session of this test binary.
var Session = start()

// Recorder is a session that records.
type Recorder struct {
	mu      sync.Mutex
	asked   []request
	values  map[string]request // by the id that was given for it
	answers map[string]any
}

func start() *Recorder {
	r := &Recorder{}
	r.Reset(nil)
	server := httptest.NewServer(r)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		panic(err) // a listener on loopback has a port
	}
	os.Setenv("DAGGER_SESSION_PORT", port)
	os.Setenv("DAGGER_SESSION_TOKEN", "test")
	return r
}

// usual are the answers of an engine to which everything is as it should be.
var usual = map[string]any{
	"version": "v0.21.8", "exists": true, "glob": []string{"go.mod"}, "exitCode": 0, "stdout": "", "stderr": "",
	"contents": "", "entries": []string{}, "plaintext": "secret", "endpoint": "127.0.0.1:1",
}

// Reset forgets what was asked, and sets answers that are not the usual ones,
// by the name of the field. An error is an answer, too.
func (r *Recorder) Reset(answers map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked, r.values, r.answers = nil, map[string]request{}, answers
}

func (r *Recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var in struct{ Query string }
	if err := json.NewDecoder(req.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	chain, err := parse(in.Query)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := map[string]any{}
	if value, err := r.answer(chain); err != nil {
		out["errors"] = []any{map[string]any{"message": err.Error()}}
	} else {
		out["data"] = nest(chain, value)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // the client sees what is missing
}

// request is one chain, and the id that it was answered with, if it was.
type request struct {
	chain []field
	id    string
}

// answer records a request and finds its answer.
func (r *Recorder) answer(chain []field) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := chain[len(chain)-1].name
	if chain[0].name == "node" { // the value of an id is its own
		return strings.Trim(strings.TrimPrefix(chain[0].args, "id:"), `"`), nil
	}
	for _, from := range []map[string]any{r.answers, usual} {
		v, ok := from[last]
		if err, bad := v.(error); bad {
			return nil, err
		}
		if ok {
			r.asked = append(r.asked, request{chain: chain})
			return v, nil
		}
	}
	switch last {
	case "id", "sync", "start":
		sum := sha256.Sum256([]byte(render(chain)))
		req := request{chain, fmt.Sprintf("<%x>", sum[:8])}
		r.values[req.id] = req
		r.asked = append(r.asked, req)
		return req.id, nil
	}
	return nil, fmt.Errorf("the test has no answer for %s", last)
}

// nest puts a value where the client looks for it.
func nest(chain []field, value any) any {
	for i := len(chain) - 1; i >= 0; i-- {
		if strings.HasPrefix(chain[i].name, fragment) {
			continue
		}
		value = map[string]any{chain[i].name: value}
	}
	return value
}
