package probe

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// conn is a client that decides what goes into which segment.
type conn struct {
	net.Conn
	in *bufio.Reader
	t  testing.TB
}

func dial(t testing.TB, addr string) *conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	return &conn{Conn: c, in: bufio.NewReader(c), t: t}
}

// send writes each part as a segment, with a pause in between.
func (c *conn) send(parts ...string) {
	c.t.Helper()
	for i, part := range parts {
		if i > 0 {
			time.Sleep(3 * time.Millisecond)
		}
		if _, err := c.Write([]byte(part)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// answers reads n answers and returns their status codes.
func (c *conn) answers(n int, method string) []int {
	c.t.Helper()
	var codes []int
	for len(codes) < n {
		resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
		if err != nil {
			c.t.Fatalf("answer %d of %d: %v", len(codes)+1, n, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			c.t.Fatal(err)
		}
		codes = append(codes, resp.StatusCode)
	}
	return codes
}

// get is a request without a body.
func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n" }

// post is one with a body of known length.
func post(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\ncontent-Length:  %d\r\n\r\n%s", path, len(body), body)
}
