package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/sluice-cd/sluice/bpf/probe"
)

// kind is a kind of request.
type kind struct {
	h2     bool
	query  string
	status int // HTTP status that it gets
	grpc   int // gRPC status that it gets, of a call
}

// isCall reports whether the request is a gRPC call.
func (k kind) isCall() bool { return strings.Contains(k.query, "grpc=") }

// mix is several kinds of requests, sent in turn.
type mix []kind

// The mixes: answers of three classes, and calls that end well and badly.
var (
	http1 = mix{{status: 200}, {query: "?status=404", status: 404}, {query: "?status=503", status: 503}}
	http2 = mix{{h2: true, status: 200}, {h2: true, query: "?status=404", status: 404}, {h2: true, query: "?status=503", status: 503}}
	grpc  = mix{{h2: true, query: "?grpc=0", status: 200, grpc: 0}, {h2: true, query: "?grpc=14", status: 200, grpc: 14}}
)

// sent is what has been sent, as a probe should count it.
type sent struct {
	requests uint64
	classes  [6]uint64
	grpc     [probe.GRPCCodes]uint64
}

// send sends as many requests of each kind, over a few connections at a time,
// some of which are used again.
func (m mix) send(ctx context.Context, addr string, each int) (sent, error) {
	const clients = 4
	var s sent
	var wg sync.WaitGroup
	errs := make([]error, clients)
	for i := range clients {
		wg.Go(func() {
			c := client(m[0].h2, i%2 == 0)
			defer c.CloseIdleConnections()
			for range each / clients {
				for _, k := range m {
					if err := k.ask(ctx, c, addr); err != nil {
						errs[i] = err
						return
					}
				}
			}
		})
	}
	wg.Wait()
	for _, k := range m {
		n := uint64(each / clients * clients)
		s.requests += n
		s.classes[k.status/100] += n
		if k.isCall() {
			s.grpc[k.grpc] += n
		}
	}
	return s, errors.Join(errs...)
}

// client returns one that keeps its connection, or that makes one for every
// request.
func client(h2, keep bool) *http.Client {
	t := &http.Transport{DisableKeepAlives: !keep, Protocols: new(http.Protocols)}
	t.Protocols.SetHTTP1(!h2)
	t.Protocols.SetUnencryptedHTTP2(h2)
	return &http.Client{Transport: t}
}

// ask sends one request and makes sure that the answer is the right one.
func (k kind) ask(ctx context.Context, c *http.Client, addr string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/"+k.query, strings.NewReader("hello"))
	if err != nil {
		return err
	}
	if k.isCall() {
		r.Header.Set("Content-Type", "application/grpc")
		r.Header.Set("Te", "trailers")
	}
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != k.status {
		return fmt.Errorf("the service answered %s, expected %d", answer.Status, k.status)
	}
	if code := answer.Trailer.Get("Grpc-Status"); k.isCall() && code != strconv.Itoa(k.grpc) {
		return fmt.Errorf("the service ended the call with %q, expected %d", code, k.grpc)
	}
	return nil
}

// compare compares what was sent with what was counted meanwhile.
func (s sent) compare(before, after probe.Counts) error {
	var got sent
	got.requests = after.Requests - before.Requests
	for i := range got.classes {
		got.classes[i] = after.Classes[i] - before.Classes[i]
	}
	for i := range got.grpc {
		got.grpc[i] = after.GRPC[i] - before.GRPC[i]
	}
	if got != s {
		return fmt.Errorf("counted %d requests, classes %v, gRPC %v; sent %d, %v, %v", got.requests, got.classes, got.grpc, s.requests, s.classes, s.grpc)
	}
	if n := after.Latency.Count() - before.Latency.Count(); n != s.requests {
		return fmt.Errorf("%d requests are in the histogram, %d were counted", n, s.requests)
	}
	if n := after.Aborted - before.Aborted; n != 0 {
		return fmt.Errorf("%d requests were counted as aborted, expected none", n)
	}
	return nil
}
