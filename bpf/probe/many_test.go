package probe

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	"golang.org/x/sys/unix"
)

// serveMany answers every segment as if it were a request, and needs little
// memory for a connection.
func serveMany(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go answerAll(c)
	}
}

func answerAll(c net.Conn) {
	defer c.Close()
	var b [256]byte
	for {
		if _, err := c.Read(b[:]); err != nil {
			return
		}
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
			return
		}
	}
}

func TestTenThousandConnectionsAtATimeAreCounted(t *testing.T) {
	const conns, rounds = 10_000, 2
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < conns+100 {
		t.Skipf("needs %d open files, may have %d", conns+100, limit.Cur)
	}
	s := start(t)
	p := s.watch(t, Options{})
	clients := make([]net.Conn, conns)
	crowd(8, conns/8, func(i int) {
		c, err := net.DialTimeout("tcp", s.many, patience)
		if err != nil {
			t.Error(err)
			return
		}
		clients[i] = c
	})
	if t.Failed() {
		t.FailNow()
	}
	for range rounds {
		crowd(8, conns/8, func(i int) { _, _ = io.WriteString(clients[i], get("/")) })
		crowd(8, conns/8, func(i int) { _, _ = clients[i].Read(make([]byte, 256)) })
	}
	for i, c := range clients {
		if i%2 == 0 {
			_ = c.(*net.TCPConn).SetLinger(0) // a reset
		}
		_ = c.Close()
	}
	got := eventually(t, p, func(c Counts) bool { return c.Resets == conns/2 })
	if got.Classes != oks(rounds*conns) || got.Connections != conns || got.Resets != conns/2 || got.Aborted != 0 || got.InFlight() != 0 {
		t.Errorf("counted %v on %d connections, %d reset, %d aborted, %d in flight; want %d on %d, half of them reset", got.Classes, got.Connections, got.Resets, got.Aborted, got.InFlight(), rounds*conns, conns)
	}
}

func TestAServiceInAnotherNetworkNamespaceIsCounted(t *testing.T) {
	t.Parallel()
	s := startAt(t, place{netns: true})
	p := s.watch(t, Options{})
	for _, addr := range []string{s.v4, s.v6} {
		var c *conn
		s.inside(t, func() { c = dial(t, addr) })
		for range 10 {
			c.send(get("/"))
			c.answers(1, "GET")
		}
	}
	got, snap := total(t, p)
	if got.Classes != oks(20) || len(snap.Workloads) != 2 {
		t.Errorf("counted %v of %d workloads, want 20 of 2", got.Classes, len(snap.Workloads))
	}
}

func TestAPortThatIsUsedAgainGoesOnCounting(t *testing.T) {
	t.Parallel()
	s := startAt(t, place{listen: lowPort()})
	p := s.watch(t, Options{})
	use := func() {
		for range 5 {
			c := dial(t, s.v4)
			c.send(get("/"), get("/"))
			c.answers(2, "GET")
		}
	}
	use()
	c := dial(t, s.v4)
	c.send(get("/?wait=1m"))
	eventually(t, p, func(c Counts) bool { return c.InFlight() == 1 })
	s.kill()
	s = startAt(t, place{listen: s.v4, group: s.group})
	use()
	got, snap := total(t, p)
	if got.Classes != oks(20) || got.Aborted != 1 || len(snap.Workloads) != 1 {
		t.Errorf("counted %v, %d aborted, %d workloads; want 20, 1, 1", got.Classes, got.Aborted, len(snap.Workloads))
	}
}

func TestServicesThatShareAPortAreToldApart(t *testing.T) {
	t.Parallel()
	one := startAt(t, place{listen: lowPort()})
	other := startAt(t, place{listen: one.v4})
	probes := map[*service]*Probe{one: one.watch(t, Options{}), other: other.watch(t, Options{})}
	const conns = 64
	for range conns {
		c := dial(t, one.v4)
		c.send(get("/"))
		c.answers(1, "GET")
		_ = c.Close()
	}
	var sum uint64
	for s, p := range probes {
		got, snap := total(t, p)
		sum += got.Requests
		for w := range snap.Workloads {
			if got.Requests == 0 || got.Connections != got.Requests || w.Addr != netip.MustParseAddrPort(s.v4) {
				t.Errorf("counted %d requests on %d connections to %v, want about %d to %s", got.Requests, got.Connections, w.Addr, conns/2, s.v4)
			}
		}
	}
	if sum != conns {
		t.Errorf("counted %d, want %d", sum, conns)
	}
}

func TestAnUpgradeIsOneRequest(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	server := httptest.NewUnstartedServer(websocket.Handler(func(c *websocket.Conn) { _, _ = io.Copy(c, c) }))
	server.Listener = s.raw
	server.Start()
	defer server.Close()
	_, port, _ := net.SplitHostPort(s.raw.Addr().String())
	const sockets = 3
	for range sockets {
		c, err := websocket.Dial("ws://127.0.0.1:"+port, "", "http://localhost")
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range []string{get("/"), "HTTP/1.1 500 No\r\n\r\n", strings.Repeat("x", 3000)} {
			if err := websocket.Message.Send(c, message); err != nil {
				t.Fatal(err)
			}
			var back string
			if err := websocket.Message.Receive(c, &back); err != nil || back != message {
				t.Fatalf("got %d bytes back (%v), want %d", len(back), err, len(message))
			}
		}
		_ = c.Close()
	}
	if got := eventually(t, p, func(c Counts) bool { return c.Classes[1] == sockets }); got.Classes != (classes{1: sockets}) || got.Begun != sockets || got.Aborted != 0 {
		t.Errorf("counted %v, %d begun, %d aborted; want 1xx of %d", got.Classes, got.Begun, got.Aborted, sockets)
	}
}

func TestWhatCannotBeMeasuredIsPublished(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	secret := httptest.NewUnstartedServer(handler())
	secret.Listener = s.raw
	secret.EnableHTTP2 = true
	secret.StartTLS()
	defer secret.Close()
	_, port, _ := net.SplitHostPort(s.raw.Addr().String())
	const conns = 5
	for i := range conns {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: i%2 == 0}
		client := &http.Client{Transport: transport}
		for range 3 {
			fetch(t, client, "GET", "https://127.0.0.1:"+port, 0)
		}
		transport.CloseIdleConnections()
	}
	others := []string{"\x00\x01binary\n", "PING\r\n", "EHLO mail.example.org\r\n", "*1\r\n$4\r\nPING\r\n", "SSH-2.0-test\r\n", "GET /\r\n"}
	for _, hello := range others {
		c := dial(t, s.v4)
		c.send(hello, hello)
	}
	want := uint64(conns + len(others))
	got, snap := total(t, p)
	for i := 0; i < 100 && snap.Loss.Unmeasured < want; i++ {
		time.Sleep(10 * time.Millisecond)
		got, snap = total(t, p)
	}
	if snap.Loss != (Loss{Unmeasured: want}) || got.Begun != 0 {
		t.Errorf("lost %+v, %d requests begun; want %d unmeasured connections", snap.Loss, got.Begun, want)
	}
}

func TestRequestsOfHTTP2BeyondTheTableAreReportedAsLost(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{Workloads: 1})
	client := newH2Client(t)
	for _, addr := range []string{s.v4, s.v6} {
		for range 5 {
			fetch(t, client, "GET", "http://"+addr, 0)
		}
	}
	if got, snap := total(t, p); got.Requests != 5 || snap.Loss != (Loss{Requests: 5}) {
		t.Errorf("counted %d, lost %+v; want 5 and 5", got.Requests, snap.Loss)
	}
}

func TestAnswersThatShareASegmentAreCounted(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	var want uint64
	for i, n := range []int{2, 5, 16, 17, 40, 200} {
		x := s.pair(t, fmt.Sprintf("127.0.2.%d", i+1))
		for _, body := range []int{0, 5, 200} {
			answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX: Here HTTP/1.1\r\n\r\n%s", body, strings.Repeat("H", body))
			x.client.send([]byte(strings.Repeat(get("/"), n)))
			x.server.send([]byte(strings.Repeat(answer, n)))
			want += uint64(n)
			if got, _ := total(t, p); got.Classes != oks(want) || got.InFlight() != 0 {
				t.Fatalf("%d answers with %d bytes of body: counted %v in all, %d in flight; want %d", n, body, got.Classes, got.InFlight(), want)
			}
		}
	}
}
