package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// serve VAR STATUS BODY LOG starts a server that gives every request the same
// answer, and writes down in LOG what was asked. VAR is its address.
func serve(ts *testscript.TestScript, _ bool, args []string) {
	status, err := strconv.Atoi(args[1])
	ts.Check(err)
	log, err := os.Create(ts.MkAbs(args[3]))
	ts.Check(err)
	var mu sync.Mutex
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(log, "%s %s %s\n", r.Method, r.URL, body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, args[2])
	}))
	ts.Setenv(args[0], s.URL)
	ts.Defer(func() {
		s.Close()
		_ = log.Close()
	})
}
