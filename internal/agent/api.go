package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/bundle"
	"github.com/sluice-cd/sluice/internal/wire"
)

// freshness is how old a snapshot may be that is told: a thousand readers cost
// no more than ten a second.
const freshness = 100 * time.Millisecond

// handler serves the API. Health checks are for everybody, the rest for whom the
// listener lets in, writing for whom Allow names.
func (a *Agent) handler() http.Handler {
	inner := http.NewServeMux()
	inner.HandleFunc("GET "+wire.PathSnapshot, a.snapshot)
	inner.Handle("GET /metrics", a.metrics())
	inner.HandleFunc("GET "+wire.PathObjects, a.objects)
	inner.HandleFunc("POST "+wire.PathObjects, a.writer(a.postObject))
	inner.HandleFunc("POST "+wire.PathRollback, a.writer(a.postRollback))
	if a.cfg.Pprof {
		inner.HandleFunc("GET /debug/pprof/", pprof.Index)
		inner.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		inner.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.Handle("/", a.reader(inner))
	return mux
}

// reader lets in who has a verified certificate, where certificates are asked
// for.
func (a *Agent) reader(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && a.cfg.TLS.ClientCA != "" && certificate(r) == nil {
			wire.WriteError(w, http.StatusUnauthorized, &ForbiddenError{"no client certificate", "present one that --tls-client-ca vouches for"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// writer lets in who may change something.
func (a *Agent) writer(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := a.cfg.Allow.mayWrite(r); err != nil {
			a.log.Warn("refused", "method", r.Method, "path", r.URL.Path, "from", r.RemoteAddr, "err", err)
			wire.WriteError(w, http.StatusForbidden, err)
			return
		}
		next(w, r)
	}
}

func (a *Agent) snapshot(w http.ResponseWriter, r *http.Request) {
	now, err := a.Read(freshness)
	if err != nil {
		wire.WriteError(w, http.StatusServiceUnavailable, err)
		return
	}
	body, kind := now.Encoded, wire.MediaType
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		if body, err = now.JSON(); err != nil {
			wire.WriteError(w, http.StatusInternalServerError, err)
			return
		}
		kind = "application/json"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body)
}

// ready returns nil if what the daemon tells can be relied on.
func (a *Agent) ready() error {
	if !a.tested {
		return errors.New("the self-test has not passed")
	}
	if why := a.broken.Load(); why != nil {
		return errors.New(*why)
	}
	r := a.latest.Load()
	if r == nil || time.Since(r.At) > 3*a.cfg.Interval+time.Second {
		return errors.New("the last snapshot is old")
	}
	if r.Status.Mismatch != "" {
		return fmt.Errorf("hash mismatch: %s", r.Status.Mismatch)
	}
	return nil
}

func (a *Agent) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := a.ready(); err != nil {
		wire.WriteError(w, http.StatusServiceUnavailable, err)
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

func (a *Agent) objects(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	answer := wire.Objects{Loaded: a.probe.Loaded()}
	a.mu.Unlock()
	var err error
	if answer.History, err = a.history(r.Context()); err != nil {
		wire.WriteError(w, http.StatusBadGateway, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (a *Agent) postObject(w http.ResponseWriter, r *http.Request) {
	var ask wire.SwapRequest
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, wire.MaxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(&ask); err != nil {
		wire.WriteError(w, http.StatusBadRequest, fmt.Errorf(`reading the request, want {"object": base64, "bundle": base64, "digest": "sha256:…"}: %w`, err))
		return
	}
	result, err := a.Swap(r.Context(), ask)
	a.answer(w, result, err)
}

func (a *Agent) postRollback(w http.ResponseWriter, r *http.Request) {
	result, err := a.Rollback(r.Context())
	a.answer(w, result, err)
}

func (a *Agent) answer(w http.ResponseWriter, result wire.SwapResult, err error) {
	if err != nil {
		a.log.Warn("not swapped", "err", err)
		wire.WriteError(w, statusOf(err), err)
		return
	}
	writeJSON(w, http.StatusOK, result)
}

// statusOf says what kind of failure it was.
func statusOf(err error) int {
	switch {
	case errors.Is(err, ErrNoKey), is[*bundle.VerifyError](err), is[*bpf.DigestError](err):
		return http.StatusForbidden
	case is[*probe.LayoutError](err), is[*BadError](err), errors.Is(err, ErrNothingBefore):
		return http.StatusConflict
	case is[*bpf.FormatError](err), is[*bpf.LoadError](err), is[*ViolationError](err):
		return http.StatusUnprocessableEntity
	case is[*HistoryError](err):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		wire.WriteError(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
