package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
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

// asking reports whether a socket of this machine waits for an answer to its SYN
// (proc_net_tcp.txt of the kernel: state 2).
func asking(addr string) bool {
	raw, err := os.ReadFile("/proc/self/net/tcp")
	port := netip.MustParseAddrPort(addr).Port()
	return err == nil && strings.Contains(string(raw), fmt.Sprintf(":%04X 02 ", port))
}

// dialOnce makes a connection and closes it, or gives up once it waits for an
// answer.
func dialOnce(t *testing.T, addr string, giveUp bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if giveUp {
		go func() {
			for !asking(addr) && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			cancel()
		}()
	}
	if c, err := new(net.Dialer).DialContext(ctx, "tcp", addr); err == nil {
		_ = c.Close()
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
		made, aborted uint64
		least         time.Duration // that one takes
		giveUp        bool          // after the first SYN
		after         func()        // it
	}{
		{name: "made", addr: s.v4, made: 10},
		{name: "made over IPv6", addr: s.v6, made: 10},
		{name: "refused", addr: nobody.Addr().String(), aborted: 10},
		{name: "no answer", addr: dropping, aborted: 10, giveUp: true},
		{
			name: "an answer to the second SYN", addr: dropping, made: 1, least: 500 * time.Millisecond,
			after: accept,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := outgoing(t, s, p)
			if tt.after != nil {
				go func() {
					for !asking(tt.addr) && t.Context().Err() == nil {
						time.Sleep(5 * time.Millisecond)
					}
					time.Sleep(100 * time.Millisecond) // it was dropped by then; the next one comes after a second
					tt.after()
				}()
			}
			begin := time.Now()
			for range tt.made + tt.aborted {
				dialOnce(t, tt.addr, tt.giveUp)
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
