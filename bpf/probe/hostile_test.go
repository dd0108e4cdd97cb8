package probe

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// invariants hold of what was counted since before, whatever was sent, when all
// connections are closed.
func invariants(t testing.TB, before, now Counts) {
	t.Helper()
	var classes uint64
	for i, n := range now.Classes {
		classes += n - before.Classes[i]
	}
	begun, answered, aborted := now.Begun-before.Begun, now.Requests-before.Requests, now.Aborted-before.Aborted
	if n := now.Latency.Count() - before.Latency.Count(); n != answered || classes != answered {
		t.Errorf("%d requests, %d in the histogram, %d in the classes", answered, n, classes)
	}
	if n := now.Complete.Count() - before.Complete.Count(); n > answered {
		t.Errorf("%d requests, %d of them complete", answered, n)
	}
	if begun != answered+aborted {
		t.Errorf("begun %d, answered %d, aborted %d", begun, answered, aborted)
	}
}

// bystander is a service beside the hostile traffic, whose counts are known.
type bystander struct {
	*arena
	addr  string
	conn  *conn
	count uint64
}

func (a *arena) bystander(t testing.TB) *bystander {
	addr := a.serve(t, mixed)
	return &bystander{arena: a, addr: addr, conn: dial(t, addr)}
}

// unharmed fails the test if anything but one more request was counted of it.
func (b *bystander) unharmed(t testing.TB) {
	t.Helper()
	b.conn.t = t
	_ = b.conn.SetDeadline(time.Now().Add(2 * patience))
	b.conn.send(get("/?size=10"))
	b.conn.answers(1, "GET")
	b.count++
	got := b.of(t, b.addr)
	if got.Classes != oks(b.count) || got.Begun != b.count || got.Aborted != 0 || got.Latency.Count() != b.count {
		t.Errorf("another service got %d requests, counted are %d begun, %v, %d aborted", b.count, got.Begun, got.Classes, got.Aborted)
	}
}

// final reads the answers in what a server sent, without 1xx.
func final(sent []byte) (n uint64) {
	in := bufio.NewReader(bytes.NewReader(sent))
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return n
		}
		if resp.StatusCode >= 200 {
			n++
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return n
		}
	}
}

const smuggled = "GET /smuggled1 HTTP/1.1\r\nHost: x\r\n\r\n" // 36 bytes

// shapes are requests that readers understand differently. Of unanswered ones the
// server sends no answer, because it refused the one before.
var shapes = map[string]struct {
	parts      []string
	unanswered uint64
	hidden     uint64 // what the client may not see of the end
}{
	"two lengths, the same":       {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 36\r\nContent-Length: 36\r\n\r\n" + smuggled}},
	"two lengths":                 {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 36\r\n\r\n" + smuggled}},
	"a length of −1":              {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n" + smuggled}, unanswered: 1},
	"a length of 2⁶⁴ + 1":         {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551617\r\n\r\n" + smuggled}, unanswered: 1},
	"a length of 25 digits":       {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0000000000000000000000036\r\n\r\n" + smuggled}},
	"a length of 60 digits":       {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + strings.Repeat("0", 58) + "36\r\n\r\n" + smuggled}},
	"a length in hexadecimal":     {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x24\r\n\r\n" + smuggled}, unanswered: 1},
	"blanks before the length":    {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:" + strings.Repeat(" ", 40) + "36\r\n\r\n" + smuggled}},
	"tabs before the length":      {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\t\t36\r\n\r\n" + smuggled}},
	"a blank before the colon":    {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 36\r\n\r\n" + smuggled}, unanswered: 1},
	"a length on a folded line":   {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n 36\r\n\r\n" + smuggled}},
	"a long length, cut":          {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:" + strings.Repeat(" ", 90), "36\r\n\r\n" + smuggled}},
	"a length after 1 KB of line": {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:" + strings.Repeat(" ", 1000) + "36\r\n\r\n" + smuggled}},
	"length and chunks":           {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled}},
	"chunks on a folded line":     {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + smuggled}},
	"chunks, twice":               {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled}, unanswered: 1},
	"unknown encoding":            {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled}, unanswered: 1},
	"chunks in HTTP/1.0":          {parts: []string{"POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 36\r\n\r\n" + smuggled, smuggled}},
	"extensions of chunks":        {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n24;a=" + strings.Repeat("b", 100) + "\r\n" + smuggled + "\r\n0\r\n\r\n", smuggled}},
	"a chunk of 2⁶⁴":              {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n" + smuggled}, unanswered: 1},
	"trailers":                    {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n0\r\nA: b\r\n\r\n" + smuggled}},
	"bare newlines":               {parts: []string{"GET / HTTP/1.1\nHost: x\n\n" + smuggled}},
	"a bare carriage return":      {parts: []string{"GET / HTTP/1.1\r\nHost: x\r\nA: b\rContent-Length: 36\r\n\r\n" + smuggled}, unanswered: 1},
	"NUL":                         {parts: []string{"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n" + smuggled}, unanswered: 1},
	"NUL in the first line":       {parts: []string{"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled}, unanswered: 1},
	"an empty line in front":      {parts: []string{smuggled, "\r\n" + smuggled}},
	"no host":                     {parts: []string{"GET / HTTP/1.1\r\n\r\n" + smuggled}, unanswered: 1},
	"HTTP/1.9":                    {parts: []string{"GET / HTTP/1.9\r\nHost: x\r\n\r\n" + smuggled}, unanswered: 1},
	"HTTP/2.0 in words":           {parts: []string{smuggled, "GET / HTTP/2.0\r\nHost: x\r\n\r\n"}},
	"a method in small letters":   {parts: []string{smuggled, "get / HTTP/1.1\r\nHost: x\r\n\r\n"}},
	"a method with a dash":        {parts: []string{smuggled, "M-SEARCH / HTTP/1.1\r\nHost: x\r\n\r\n"}},
	"a method like an answer":     {parts: []string{smuggled, "HTTPX / HTTP/1.1\r\nHost: x\r\n\r\n"}},
	"a method of small letters":   {parts: []string{"get / HTTP/1.1\r\nHost: x\r\n\r\n"}},
	"no HTTP after HTTP":          {parts: []string{smuggled, "\x00\x01\x02\xff\r\n\r\n"}},
	"the preface of HTTP/2, late": {parts: []string{smuggled, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}},
	"a header of 900 kB":          {parts: []string{"GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 900_000) + "\r\n\r\n" + smuggled}, hidden: 1},
	"a header that is too long":   {parts: []string{"GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 2_000_000) + "\r\n\r\n"}, hidden: 1},
	"a first line of 60 kB":       {parts: []string{"GET /" + strings.Repeat("a", 60_000) + " HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled}},
	"900 lines":                   {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 900) + "Content-Length: 36\r\n\r\n" + smuggled + smuggled}},
	"20 000 empty lines":          {parts: []string{smuggled, strings.Repeat("\r\n", 20_000) + smuggled}},
	"100-continue and more":       {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 36\r\n\r\n" + smuggled + smuggled}},
	"an unknown expectation":      {parts: []string{"POST / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\nContent-Length: 36\r\n\r\n" + smuggled}},
	"CONNECT":                     {parts: []string{"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", smuggled}},
	"an upgrade that is declined": {parts: []string{"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", smuggled}},
	"twenty at once":              {parts: []string{strings.Repeat(smuggled, 20)}},
	"three hundred at once":       {parts: []string{strings.Repeat(smuggled, 300)}},
	"chunked ones at once":        {parts: []string{strings.Repeat("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 10)}},
}

// TestTheProbeAgreesWithTheServerOrSaysThatItDoesNotKnow sends what proxies and
// servers are known to understand differently to a server of net/http. What the
// client sees answered is counted once, or is missing openly.
func TestTheProbeAgreesWithTheServerOrSaysThatItDoesNotKnow(t *testing.T) {
	a := newArena(t, Options{})
	other := a.bystander(t)
	for name, tt := range shapes {
		t.Run(name, func(t *testing.T) {
			addr := a.serve(t, mixed)
			before, lost := a.of(t, addr), a.loss(t) // a port may be used again
			answered := final(converse(t, addr, tt.parts))
			got, loss := a.settledSince(t, addr, before), a.loss(t)
			invariants(t, before, got)
			openly := loss.Requests - lost.Requests
			if loss.Unmeasured > lost.Unmeasured {
				openly = answered
			}
			// A reset, because the server did not read it all, may overtake the
			// answer on its way to the client.
			if n := got.Requests - before.Requests; n > answered+tt.hidden || n+openly < answered {
				t.Errorf("answered %d, counted %d, missing openly %d", answered, n, openly)
			}
			if n := got.Aborted - before.Aborted; n > tt.unanswered+tt.hidden {
				t.Errorf("aborted %d, of which the client saw %d", n, tt.unanswered)
			}
			other.unharmed(t)
		})
	}
}

// converse sends parts with pauses and returns all that comes back until nothing
// comes for a while.
func converse(t testing.TB, addr string, parts []string) []byte {
	t.Helper()
	c := dial(t, addr)
	defer c.Close()
	go func() {
		for _, part := range parts {
			_, _ = c.Write([]byte(part))
			time.Sleep(10 * time.Millisecond)
		}
	}()
	var all bytes.Buffer
	buf := make([]byte, 1<<16)
	pause := time.Duration(10*len(parts)+40) * time.Millisecond
	for {
		_ = c.SetReadDeadline(time.Now().Add(pause))
		n, err := c.Read(buf)
		all.Write(buf[:n])
		if err != nil {
			return all.Bytes()
		}
	}
}
