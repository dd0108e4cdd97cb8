package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
)

// server is one shop. net/http serves all three protocols: it tells HTTP/1.1
// from h2c by the connection's first bytes, and gRPC is handed to grpc's
// ServeHTTP by content type. One server means one graceful shutdown that knows
// every request, which two servers behind a sniffing listener would not give.
type server struct {
	http     *http.Server
	mux      http.Handler
	rpc      *grpc.Server
	health   *health.Server
	injector *injector
	metrics  *metrics
	tracing  *tracing
	version  string

	lameDuck, drainTimeout time.Duration

	draining   atomic.Bool
	inFlight   atomic.Int64
	streams    context.Context // over when long-lived gRPC streams must end
	endStreams context.CancelFunc
}

func newServer(o options, tracing *tracing, stderr io.Writer) *server {
	s := &server{
		injector: newInjector(o.Faults, sharedRand()),
		tracing:  tracing,
		version:  releaseVersion(),
		lameDuck: o.LameDuck, drainTimeout: o.DrainTimeout,
	}
	s.streams, s.endStreams = context.WithCancel(context.Background())
	s.metrics = newMetrics(s.injector)
	s.mux = s.routes()
	s.rpc, s.health = newRPC(s, tracing.rpcOptions()...)

	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler:           s,
		Protocols:         protocols,
		ConnContext:       s.markLate,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       2 * time.Minute,
		// No WriteTimeout: it would cut health watches, and every other answer
		// fits into the socket's buffer.
		ErrorLog: log.New(stderr, "shop: ", 0),
	}
	return s
}

// lateConn marks connections that were accepted while draining. Over HTTP/2 they
// are left in peace until the end: a call that crossed the GOAWAY of an old
// connection is repeated on a new one, and gRPC clients repeat it only once.
type lateConn struct{}

func (s *server) markLate(ctx context.Context, _ net.Conn) context.Context {
	if s.draining.Load() {
		return context.WithValue(ctx, lateConn{}, true)
	}
	return ctx
}

// ServeHTTP is the door for every request of every protocol.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	if s.draining.Load() && (r.ProtoMajor < 2 || r.Context().Value(lateConn{}) == nil) {
		// HTTP/1.1 clients open their next connection elsewhere; net/http turns
		// it into a GOAWAY for HTTP/2. No connection is closed under a request.
		w.Header().Set("Connection", "close")
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		s.rpc.ServeHTTP(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// serve answers on ln until ctx is cancelled, then drains. It closes ln. It
// returns nil after a drain that lost nothing.
func (s *server) serve(ctx context.Context, ln net.Listener) error {
	defer s.endStreams()
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
		return s.drain(context.WithoutCancel(ctx))
	}
}

// drain leaves in three steps: say not ready but serve everything for the
// lame-duck time, close the listener and wait for what is in flight, close.
func (s *server) drain(ctx context.Context) error {
	s.draining.Store(true)
	s.health.Shutdown()
	time.Sleep(s.lameDuck)

	s.endStreams()
	ctx, cancel := context.WithTimeout(ctx, s.drainTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		cut := s.inFlight.Load()
		err = s.http.Close()
		if cut > 0 {
			return fmt.Errorf("draining: %d requests still running after -drain-timeout %s were cut off", cut, s.drainTimeout)
		}
	}
	if err != nil {
		return fmt.Errorf("draining: %w", err)
	}
	return nil
}
