package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluice-cd/sluice/bpf/probe"
)

// testService answers as the service in a machine does.
func testService(t *testing.T) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(answer))
	s.Config.Protocols = protocols()
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestEveryRequestOfAMixGetsItsAnswer(t *testing.T) {
	addr := testService(t)
	for name, m := range map[string]mix{"HTTP/1.1": http1, "h2c": http2, "gRPC": grpc} {
		t.Run(name, func(t *testing.T) {
			s, err := m.send(t.Context(), addr, 8)
			if err != nil {
				t.Fatal(err)
			}
			var classes uint64
			for _, n := range s.classes {
				classes += n
			}
			if want := uint64(8 * len(m)); s.requests != want || classes != want {
				t.Errorf("%+v, want %d requests", s, want)
			}
		})
	}
}

func TestAWrongAnswerIsAnError(t *testing.T) {
	addr := testService(t)
	for name, m := range map[string]mix{
		"another status":       {{query: "?status=404", status: 200}},
		"another gRPC status":  {{h2: true, query: "?grpc=14", status: 200, grpc: 0}},
		"no answer":            {{query: "?hangup=1", status: 200}},
		"an address of nobody": {{query: "", status: 200}},
	} {
		t.Run(name, func(t *testing.T) {
			to := addr
			if name == "an address of nobody" {
				to = "127.0.0.1:1"
			}
			if _, err := m.send(t.Context(), to, 4); err == nil {
				t.Error("it was taken")
			}
		})
	}
}

func TestACountThatDiffersIsAnError(t *testing.T) {
	before := probe.Counts{Requests: 5, Classes: [6]uint64{2: 5}}
	before.Latency.Add(100, 5)
	s := sent{requests: 2, classes: [6]uint64{2: 1, 5: 1}}
	right := func() probe.Counts {
		c := probe.Counts{Requests: 7, Classes: [6]uint64{2: 6, 5: 1}}
		c.Latency.Add(100, 7)
		return c
	}
	for name, tt := range map[string]struct {
		change func(*probe.Counts)
		ok     bool
	}{
		"the same":                 {func(*probe.Counts) {}, true},
		"one too few":              {func(c *probe.Counts) { c.Requests-- }, false},
		"one too many":             {func(c *probe.Counts) { c.Requests++ }, false},
		"another class":            {func(c *probe.Counts) { c.Classes[5]--; c.Classes[4]++ }, false},
		"a call":                   {func(c *probe.Counts) { c.GRPC[0]++ }, false},
		"one not in the histogram": {func(c *probe.Counts) { c.Latency.Add(7, 1) }, false},
		"one aborted":              {func(c *probe.Counts) { c.Aborted++ }, false},
	} {
		t.Run(name, func(t *testing.T) {
			after := right()
			tt.change(&after)
			if err := s.compare(before, after); (err == nil) != tt.ok {
				t.Errorf("%v, want ok %v", err, tt.ok)
			}
		})
	}
}

// What the objects say is what the trials demand.
func TestEveryObjectIsMeantForTheOldestKernel(t *testing.T) {
	for _, name := range []string{"split/split_bpfel.o", "bind/mover_bpfel.o"} {
		object, err := os.ReadFile(filepath.Join("..", "..", "..", "bpf", name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := promised(object); err != nil || got != oldest {
			t.Errorf("%s is meant for %q, %v; want %s", name, got, err, oldest)
		}
	}
	if _, err := promised(bytes.Repeat([]byte{0}, 100)); err == nil {
		t.Error("something that is no object promises something")
	}
}
