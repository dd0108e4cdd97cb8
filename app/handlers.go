package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// statusClientGone is what the metrics show for a request whose client left
// before the answer, as nginx counts it.
const statusClientGone = 499

// answer is the JSON body of /work.
type answer struct {
	Service string `json:"service"`
	Version string `json:"version"`
	Error   string `json:"error,omitempty"`
}

// routes returns the handler for everything that is not gRPC.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	s.observed(mux, "/{$}", "/", s.index)
	s.observed(mux, "/work", "/work", s.workHTTP())
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("/readyz", s.ready)
	mux.Handle("/metrics", s.metrics.handler())
	return mux
}

// observed registers a handler that returns the status it wrote, with metrics
// and, where they are on, traces.
func (s *server) observed(mux *http.ServeMux, pattern, route string, handle func(http.ResponseWriter, *http.Request) int) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		status := handle(w, r)
		s.metrics.observeHTTP(r.Method, route, status, time.Since(start))
	})
	mux.Handle(pattern, s.tracing.wrap(route, h))
}

func (s *server) index(w http.ResponseWriter, _ *http.Request) int {
	return writeText(w, http.StatusOK, "shop "+s.version+"\nsee /work /healthz /readyz /metrics\n")
}

// workHTTP returns the endpoint that the knobs act upon. Both bodies are made
// once: they depend on the version only.
func (s *server) workHTTP() func(http.ResponseWriter, *http.Request) int {
	good := marshalAnswer(answer{Service: "shop", Version: s.version})
	bad := marshalAnswer(answer{Service: "shop", Version: s.version, Error: errInjected.Error()})
	return func(w http.ResponseWriter, r *http.Request) int {
		switch err := s.injector.suffer(r.Context()); {
		case err == nil:
			return writeBody(w, http.StatusOK, "application/json", good)
		case errors.Is(err, context.Canceled):
			return statusClientGone
		default:
			return writeBody(w, http.StatusInternalServerError, "application/json", bad)
		}
	}
}

// ready is 503 from the moment the service was asked to leave, while it still
// answers everything else.
func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() {
		writeText(w, http.StatusServiceUnavailable, "draining\n")
		return
	}
	writeText(w, http.StatusOK, "ready\n")
}

func marshalAnswer(a answer) []byte {
	body, err := json.Marshal(a)
	if err != nil {
		panic(err) // three strings always marshal
	}
	return append(body, '\n')
}

func writeText(w http.ResponseWriter, status int, text string) int {
	return writeBody(w, status, "text/plain; charset=utf-8", []byte(text))
}

// writeBody answers and returns status. A failed write means that the client
// is gone, which its side of the connection shows better than a log line here.
func writeBody(w http.ResponseWriter, status int, contentType string, body []byte) int {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return status
}
