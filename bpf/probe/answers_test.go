package probe

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestWhateverItsAnswerIsARequestIsCounted(t *testing.T) {
	countAll(t, map[string]coverage{
		"a large answer": {want: oks(4), do: func(c *conn, _ *service) {
			for range 4 {
				c.send(get("/?size=4000000"))
				c.answers(1, "GET")
			}
		}},
		"a chunked answer that looks like answers": {want: oks(4), do: func(c *conn, _ *service) {
			for range 4 {
				c.send(get("/lookalike"))
				c.answers(1, "GET")
			}
		}},
		"an answer whose segments look like answers": {want: oks(4), do: func(c *conn, _ *service) {
			for range 4 {
				c.send(get("/lookalike?length=1"))
				c.answers(1, "GET")
			}
		}},
		"HEAD": {want: oks(5), do: func(c *conn, _ *service) {
			for range 5 {
				c.send("HEAD /?size=9 HTTP/1.1\r\nHost: x\r\n\r\n")
				c.answers(1, "HEAD")
			}
		}},
		"1xx is not the answer": {want: oks(3), do: func(c *conn, _ *service) {
			for range 3 {
				c.send(get("/hints"))
				c.answers(3, "GET")
			}
		}},
		"1xx and the answer in one segment": {want: oks(1), do: func(c *conn, _ *service) {
			c.send(get(rawPath("HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")))
			c.answers(2, "GET")
		}},
		"two answers in one segment": {want: oks(2), do: func(c *conn, _ *service) {
			answer := "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
			c.send(get(rawPath(answer+answer)) + get("/"))
			c.answers(2, "GET")
		}},
		"101 ends the HTTP of a connection": {want: classes{1: 1}, do: func(c *conn, _ *service) {
			c.send(get(rawPath("HTTP/1.1 101 Switching\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n")))
			c.answers(1, "GET")
			c.send("GET / HTTP/1.1\r\n\r\n")
		}},
		"every status class": {want: classes{2: 1, 3: 1, 4: 2, 5: 2}, do: func(c *conn, _ *service) {
			for _, status := range []string{"204", "304", "404", "429", "500", "503"} {
				c.send(get("/?status=" + status))
				c.answers(1, "GET")
			}
		}},
		"an answer cut inside the status line": {want: classes{5: 1}, do: func(c *conn, _ *service) {
			c.send(get(rawPath("H", "TTP/1.1 5", "0", "0 Oops\r\nContent-Length: 0\r\n\r\n")))
			c.answers(1, "GET")
		}},
		"trailers": {want: oks(4), do: func(c *conn, _ *service) {
			for range 4 {
				c.send(get("/trailers"))
				c.answers(1, "GET")
			}
		}},
	})
}

func TestRequestsWithoutAnAnswerAreAborted(t *testing.T) {
	countAll(t, map[string]coverage{
		"closed by the server without an answer": {want: oks(1), aborted: 1, do: func(c *conn, _ *service) {
			c.send(get("/"))
			c.answers(1, "GET")
			c.send(get(rawPath("")))
			_, _ = io.ReadAll(c)
			c.Close()
		}},
		"closed by the client before the answer": {aborted: 1, do: func(c *conn, _ *service) {
			c.send(get("/?wait=1m"))
			time.Sleep(10 * time.Millisecond)
			_ = c.Conn.(*net.TCPConn).SetLinger(0) // a reset, as of a client that died
			c.Close()
		}},
		"the service dies with a request": {aborted: 1, do: func(c *conn, s *service) {
			c.send(get("/?wait=1m"))
			time.Sleep(20 * time.Millisecond)
			s.kill()
			c.Close()
		}},
		"answered to a client that has gone": {want: classes{3: 1}, do: func(c *conn, _ *service) {
			c.send(get("/?wait=50ms&status=304"))
			time.Sleep(10 * time.Millisecond)
			c.Close() // in order, so the service goes on
		}},
		"five pipelined when the client dies": {aborted: 5, do: func(c *conn, _ *service) {
			c.send(strings.Repeat(get("/?wait=1m"), 5))
			time.Sleep(20 * time.Millisecond)
			_ = c.Conn.(*net.TCPConn).SetLinger(0)
			c.Close()
		}},
	})
}
