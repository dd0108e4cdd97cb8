package probe

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
)

const (
	traceText  = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceValue = "00-" + traceText + "-00f067aa0ba902b7-01"
)

// exemplars reads until there are n.
func exemplars(t testing.TB, p *Probe, n int) (all []Exemplar) {
	t.Helper()
	for deadline := time.Now().Add(patience); len(all) < n && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		some, err := p.Exemplars()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, some...)
	}
	return all
}

// failures are those of an HTTP status, or of a gRPC code.
func failures(all []Exemplar, status, grpc int) (some []Exemplar) {
	for _, e := range all {
		if e.Status == status && e.GRPC == grpc {
			some = append(some, e)
		}
	}
	return some
}

// head503 is a request of HTTP/1.1 that fails, with some lines more.
func head503(lines ...string) string {
	return "GET /?status=503 HTTP/1.1\r\nHost: x\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

func TestFailuresOfHTTP1LeadToTheirTraces(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	const line = "traceparent: " + traceValue
	other := strings.Repeat("X-Other: something\r\n", 10) + "X-Last: 1"
	for name, tt := range map[string]struct {
		parts []string
		trace string
	}{
		"as the standard writes it":     {[]string{head503(line)}, traceText},
		"in capitals":                   {[]string{head503("TRACEPARENT: " + traceValue)}, traceText},
		"in title case":                 {[]string{head503("Traceparent: " + traceValue)}, traceText},
		"no blank":                      {[]string{head503("traceparent:" + traceValue)}, traceText},
		"two blanks":                    {[]string{head503("traceparent:  " + traceValue)}, traceText},
		"a tab":                         {[]string{head503("traceparent:\t" + traceValue)}, traceText},
		"a blank behind":                {[]string{head503(line + "  ")}, traceText},
		"between other lines":           {[]string{head503(other, line, other)}, traceText},
		"behind 4 kB":                   {[]string{head503("Cookie: "+strings.Repeat("c", 4000), line, other)}, traceText},
		"none":                          {[]string{head503(other)}, ""},
		"another name":                  {[]string{head503("x-traceparent: "+traceValue, "traceparents: "+traceValue)}, ""},
		"too short":                     {[]string{head503("traceparent: 00-4bf92f")}, ""},
		"not the one of the one before": {[]string{head503("X-A: 1")}, ""},
	} {
		t.Run(name, func(t *testing.T) { checkTrace(t, s, p, tt.parts, tt.trace) })
	}
	whole := head503("X: 1", line, "Y: 2")
	t.Run("byte by byte", func(t *testing.T) { checkTrace(t, s, p, strings.Split(whole, ""), traceText) })
	t.Run("cut in every place", func(t *testing.T) {
		for at := 1; at < len(whole); at++ {
			checkTrace(t, s, p, []string{whole[:at], whole[at:]}, traceText)
		}
	})
}

// checkTrace sends the parts of a request that fails, and looks at its exemplar.
func checkTrace(t *testing.T, s *service, p *Probe, parts []string, trace string) {
	t.Helper()
	if _, err := p.Exemplars(); err != nil { // of before
		t.Fatal(err)
	}
	c := dial(t, s.v4)
	before := time.Now()
	for _, part := range parts {
		c.send(part)
	}
	c.answers(1, "GET")
	all := exemplars(t, p, 1)
	if len(all) != 1 {
		t.Fatalf("%d exemplars, want 1", len(all))
	}
	e := all[0]
	if got := e.Trace.String(); got != trace && (trace != "" || !e.Trace.IsZero()) {
		t.Errorf("the trace is %s, want %q", got, trace)
	}
	if e.Status != 503 || e.GRPC != -1 || e.Aborted || e.Workload.Addr.String() != s.v4 || e.At.Before(before) || e.At.After(time.Now()) || e.Took <= 0 || e.Took > time.Since(before) {
		t.Errorf("the exemplar is %+v, want a 503 of %s just now", e, s.v4)
	}
}

func TestOfPipelinedRequestsEachHasItsTrace(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	c := dial(t, s.v4)
	c.send(head503("traceparent: "+traceValue) + head503("X: 1"))
	c.answers(2, "GET")
	for _, e := range exemplars(t, p, 2) {
		if !e.Trace.IsZero() && e.Trace.String() != traceText {
			t.Errorf("the trace %s was made up", e.Trace)
		}
	}
}

func TestTheSlowestOfASecondIsAnExemplar(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	c := dial(t, s.v4)
	const rounds, slow = 12, 100 * time.Millisecond
	for i := range rounds {
		for range 20 {
			c.send(get("/"))
			c.answers(1, "GET")
		}
		c.send(fmt.Sprintf("GET /?wait=%v HTTP/1.1\r\nHost: x\r\nTraceParent: 00-%032x-00f067aa0ba902b7-00\r\n\r\n", slow, i+1))
		c.answers(1, "GET")
	}
	seen := 0
	for _, e := range exemplars(t, p, 2) {
		if e.Took < slow {
			continue
		}
		seen++
		if e.Status != 200 || e.Aborted || e.Trace.IsZero() {
			t.Errorf("the exemplar is %+v, want a 200 with a trace", e)
		}
	}
	if seen < 1 || seen > rounds {
		t.Errorf("%d slow exemplars, want one or more of each second", seen)
	}
}

func TestFailuresOfHTTP2LeadToTheirTraces(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	next := 0
	for name, tt := range map[string]struct {
		blocks [][]byte // of requests, on one connection
		last   string   // trace of the last one
	}{
		"in Huffman's code":      {blocks: [][]byte{forms["added, in Huffman's code"].field(0, "traceparent", traceValue)}, last: traceText},
		"plain":                  {blocks: [][]byte{adding.field(0, "traceparent", traceValue)}, last: traceText},
		"never to be added":      {blocks: [][]byte{never.field(0, "traceparent", traceValue)}, last: traceText},
		"behind long fields":     {blocks: [][]byte{append(never.field(0, strings.Repeat("n", 10_000), strings.Repeat("v", 10_000)), adding.field(0, "traceparent", traceValue)...)}, last: traceText},
		"its name is in a table": {blocks: [][]byte{adding.field(0, "traceparent", strings.Repeat("0", 55)), adding.field(62, "", traceValue)}, last: traceText},
		"the same once more":     {blocks: [][]byte{adding.field(0, "traceparent", traceValue), inTable(62)}, last: traceText},
		"none":                   {blocks: [][]byte{adding.field(0, "traceparent", traceValue), nil}},
	} {
		next++
		t.Run(name, func(t *testing.T) {
			x := s.pair(t, fmt.Sprintf("127.0.3.%d", next))
			x.greet()
			for _, block := range tt.blocks {
				_, _ = p.Exemplars() // of before
				x.stream += 2
				x.client.rawHead(x.stream-1, true, append([]byte{0x82, 0x86, 0x84}, block...))
				x.client.flush()
				x.server.rawHead(x.stream-1, true, inTable(14)) // 500
				x.server.flush()
			}
			all := exemplars(t, p, 1)
			if len(all) != 1 || all[0].Status != 500 || all[0].GRPC != -1 || all[0].Workload.Addr.String() != x.addr {
				t.Fatalf("exemplars %+v, want one of a 500", all)
			}
			if got := all[0].Trace; got.String() != tt.last && (tt.last != "" || !got.IsZero()) {
				t.Errorf("the trace is %s, want %q", got, tt.last)
			}
		})
	}
}

func TestEveryTraceIDIsReadInEitherCode(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	x := s.pair(t, "127.0.4.1")
	x.greet()
	for i := range 64 {
		id := strings.Repeat(fmt.Sprintf("%x%x", i%16, (i*7+i/16)%16), 16)
		f := forms["added, in Huffman's code"]
		f.huffman = i/16%2 == 0
		_, _ = p.Exemplars()
		x.stream += 2
		x.client.rawHead(x.stream-1, true, append([]byte{0x82, 0x86, 0x84}, f.field(0, "traceparent", "00-"+id+"-00f067aa0ba902b7-01")...))
		x.client.flush()
		x.server.rawHead(x.stream-1, true, inTable(14))
		x.server.flush()
		if all := exemplars(t, p, 1); len(all) != 1 || all[0].Trace.String() != id {
			t.Errorf("exemplars %v, want the trace %s", all, id)
		}
	}
}

func TestFailuresOfRealClientsLeadToTheirTraces(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	req, err := http.NewRequest("GET", "http://"+s.v4+"/?status=502", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Traceparent", traceValue)
	resp, err := newH2Client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	c := dialGRPC(t, s.grpc)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", traceValue)
	call(ctx, c, "messages=1&code=13")
	call(ctx, c, "code=5") // is nobody's fault
	call(t.Context(), c, "code=14")
	all := exemplars(t, p, 3)
	for _, want := range []struct {
		status, grpc int
		trace        string
	}{{502, -1, traceText}, {200, 13, traceText}, {200, 14, TraceID{}.String()}} {
		some := failures(all, want.status, want.grpc)
		if len(some) == 0 || some[0].Trace.String() != want.trace {
			t.Errorf("%+v, want one of status %d and code %d with the trace %s", all, want.status, want.grpc, want.trace)
		}
	}
}

func TestAbortedRequestsLeadToTheirTraces(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	c := dial(t, s.v4)
	c.send("GET /?wait=1m HTTP/1.1\r\nHost: x\r\ntraceparent: " + traceValue + "\r\n\r\n")
	x := s.pair(t, "127.0.5.1")
	x.greet()
	x.client.head(1, true, ":method", "GET", "traceparent", traceValue)
	_ = x.client.WriteRSTStream(1, 8)
	x.client.flush()
	eventually(t, p, func(c Counts) bool { return c.InFlight() == 1 && c.Aborted == 1 })
	s.kill()
	all := exemplars(t, p, 2)
	for _, e := range all {
		if !e.Aborted || e.Status != 0 || e.Trace.String() != traceText {
			t.Errorf("the exemplar is %+v, want an aborted request with a trace", e)
		}
	}
	if len(all) != 2 {
		t.Errorf("%d exemplars, want 2", len(all))
	}
}

func TestExemplarsThatNobodyReadsAreCounted(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	x := s.pair(t, "127.0.6.1")
	x.greet()
	const batch, batches = 100, 200
	for range batches {
		for range batch {
			x.stream += 2
			x.client.rawHead(x.stream-1, true, question)
			x.server.rawHead(x.stream-1, true, inTable(14))
		}
		x.client.flush()
		x.server.flush()
	}
	snap, err := p.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	all := exemplars(t, p, 1)
	if snap.Loss.Exemplars == 0 || uint64(len(all))+snap.Loss.Exemplars != batch*batches {
		t.Errorf("%d exemplars, %d lost; want %d in all", len(all), snap.Loss.Exemplars, batch*batches)
	}
	snap.Loss.Exemplars = 0
	if got, _ := total(t, p); got.Classes != (classes{5: batch * batches}) || snap.Loss != (Loss{}) {
		t.Errorf("counted %v, lost %+v; want %d and nothing else", got.Classes, snap.Loss, batch*batches)
	}
}
