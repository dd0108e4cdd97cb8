package probe

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// full is a listening socket that drops the SYNs that come, since nobody accepts
// what it has already. The result makes room.
func full(t *testing.T) (addr string, accept func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	tcp := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}
	dial(t, tcp.String())
	return tcp.String(), func() {
		if c, _, err := unix.Accept(fd); err == nil {
			_ = unix.Close(c)
		}
	}
}

// outgoing is what the control group of a service has dialed.
func outgoing(t *testing.T, s *service, p *Probe) Counts {
	t.Helper()
	group, err := os.Stat(s.group)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := p.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if snap.Loss != (Loss{}) {
		t.Errorf("lost %+v", snap.Loss)
	}
	return snap.Workloads[Workload{Cgroup: group.Sys().(*syscall.Stat_t).Ino}]
}

func TestConnectionsThatAreMadeAreMeasured(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{Outgoing: true})
	dropping, accept := full(t)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = nobody.Close()
	moveInto(t, s.group)
	for _, tt := range []struct {
		name, addr    string
		limit         time.Duration
		made, aborted uint64
		least         time.Duration // that one takes
		before        func()
	}{
		{name: "made", addr: s.v4, limit: time.Second, made: 10},
		{name: "made over IPv6", addr: s.v6, limit: time.Second, made: 10},
		{name: "refused", addr: nobody.Addr().String(), limit: time.Second, aborted: 10},
		{name: "no answer", addr: dropping, limit: 20 * time.Millisecond, aborted: 10},
		{
			name: "an answer to the second SYN", addr: dropping, limit: 5 * time.Second, made: 1, least: 500 * time.Millisecond,
			before: func() { time.AfterFunc(200*time.Millisecond, accept) },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.before != nil {
				tt.before()
			}
			before := outgoing(t, s, p)
			begin := time.Now()
			for range tt.made + tt.aborted {
				if c, err := net.DialTimeout("tcp", tt.addr, tt.limit); err == nil {
					_ = c.Close()
				}
			}
			took := time.Since(begin)
			got := outgoing(t, s, p)
			made, aborted, sum := got.Requests-before.Requests, got.Aborted-before.Aborted, got.LatencySum-before.LatencySum
			if made != tt.made || aborted != tt.aborted || got.Latency.Count() != got.Requests || got.InFlight() != 0 {
				t.Errorf("%d made, %d aborted, %d in flight; want %d and %d", made, aborted, got.InFlight(), tt.made, tt.aborted)
			}
			if sum > took || sum < tt.least*time.Duration(tt.made) {
				t.Errorf("they took %v, want more than %v each and less than %v", sum, tt.least, took)
			}
		})
	}
}

func TestOutgoingConnectionsTakeTheirSlot(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{Outgoing: true, Workloads: 1})
	c := dial(t, s.v4) // from outside: the first workload
	c.send(get("/"))
	c.answers(1, "GET")
	moveInto(t, s.group)
	for range 5 {
		dial(t, s.v4).Close()
	}
	if got, snap := total(t, p); got.Requests != 1 || snap.Loss.Requests != 5 {
		t.Errorf("counted %d, lost %d; want 1 and 5", got.Requests, snap.Loss.Requests)
	}
}
