package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// netns is a network namespace that has no name: it is gone, with its devices,
// when nobody holds it open, so nothing is left of a test that is killed.
type netns struct{ file *os.File }

func newNetns(t testing.TB) *netns {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.Need(t, "ip")
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- result{err: err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		made <- result{f, err}
	}()
	r := <-made
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { _ = r.file.Close() })
	n := &netns{file: r.file}
	n.ip(t, "link set lo up")
	return n
}

// do runs f on a thread that is in the namespace: the sockets, files and
// processes that it opens belong there.
func (n *netns) do(t testing.TB, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // this thread must not serve another goroutine
		}
	}()
	f()
}

// ip runs the program ip once for each line of arguments.
func (n *netns) ip(t testing.TB, lines ...string) {
	t.Helper()
	n.do(t, func() {
		for _, line := range lines {
			if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
				t.Fatalf("ip %s: %v: %s", line, err, out)
			}
		}
	})
}

// client is an HTTP client in the namespace with some connections.
func (n *netns) client(t testing.TB, conns int) *http.Client {
	tr := &http.Transport{MaxConnsPerHost: conns, MaxIdleConnsPerHost: conns}
	tr.DialContext = func(_ context.Context, network, addr string) (c net.Conn, err error) {
		n.do(t, func() { c, err = net.Dial(network, addr) })
		return c, err
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 2 * patience}
}

// road is how a wire treats packets: each share is of 1.
type road struct {
	drop, duplicate, reorder, corrupt float64

	forge   float64 // somebody who knows the addresses but not the sequence numbers adds a segment
	offload bool    // packets of up to 64 KB pass in one piece, as with GSO and GRO
	seed    uint64  // of what happens when
}

// wire carries packets between two devices (TUN) in two namespaces, as badly as
// it is told to.
type wire struct {
	road
	mu   sync.Mutex
	rand *rand.Rand
	sent map[string]int // by what was done to packets
}

// connect joins two namespaces: 10.9.0.1 and fd09::1 there, 10.9.0.2 and fd09::2
// here.
func connect(t testing.TB, there, here *netns, mtu int, r road) *wire {
	t.Helper()
	w := &wire{road: r, rand: rand.New(rand.NewPCG(7, 7+r.seed)), sent: map[string]int{}}
	a, b := w.device(t, there, 1, mtu), w.device(t, here, 2, mtu)
	go w.carry(a, b)
	go w.carry(b, a)
	return w
}

func (w *wire) device(t testing.TB, n *netns, number, mtu int) *os.File {
	t.Helper()
	var dev *os.File
	n.do(t, func() {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		req, err := unix.NewIfreq("wire")
		if err != nil {
			t.Fatal(err)
		}
		flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if w.offload {
			flags |= unix.IFF_VNET_HDR
		}
		req.SetUint16(flags)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			t.Fatal(err)
		}
		if w.offload {
			if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6); err != nil {
				t.Fatal(err)
			}
		}
		dev = os.NewFile(uintptr(fd), "tun")
	})
	t.Cleanup(func() { _ = dev.Close() })
	lines := []string{fmt.Sprintf("link set wire mtu %d up", mtu), fmt.Sprintf("addr add 10.9.0.%d/24 dev wire", number)}
	if mtu >= 1280 {
		lines = append(lines, fmt.Sprintf("addr add fd09::%d/64 dev wire nodad", number))
	}
	n.ip(t, lines...)
	return dev
}

// carry brings packets from one device to the other until they are closed.
func (w *wire) carry(from, to *os.File) {
	buf := make([]byte, 1<<17)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, os.ErrClosed) || errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			continue
		}
		w.pass(append([]byte(nil), buf[:n]...), to)
	}
}

// pass does to one packet what the road does.
func (w *wire) pass(packet []byte, to *os.File) {
	fate, late, at := w.draw(len(packet))
	switch fate {
	case "dropped":
		return
	case "duplicated":
		_, _ = to.Write(packet)
	case "reordered":
		time.AfterFunc(late, func() { _, _ = to.Write(packet) })
		return
	case "corrupted":
		if !hasHead(packet) {
			packet[at] ^= 0x20
		}
	case "forged":
		if len(packet) > 120 { // it has data
			_, _ = to.Write(forged(packet))
		}
	}
	_, _ = to.Write(packet)
}

// hasHead reports whether a packet carries (a part of) the head of a request. The
// probe reads it before the kernel finds its checksum wrong (bpf/README.md).
func hasHead(packet []byte) bool {
	return bytes.Contains(packet, []byte("POST /?")) || bytes.Contains(packet, []byte("Accept-Encoding"))
}

// draw decides the fate of a packet: how late it is if it is reordered, and
// which byte is changed if it is corrupted.
func (w *wire) draw(size int) (fate string, late time.Duration, at int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fate = "passed"
	dice := w.rand.Float64()
	for _, f := range []struct {
		name  string
		share float64
	}{{"dropped", w.drop}, {"duplicated", w.duplicate}, {"reordered", w.reorder}, {"corrupted", w.corrupt}, {"forged", w.forge}} {
		if dice -= f.share; dice < 0 {
			fate = f.name
			break
		}
	}
	w.sent[fate]++
	return fate, time.Duration(w.rand.IntN(3000)) * time.Microsecond, w.rand.IntN(size)
}

// forged is a copy of a packet of IPv4 (without offload) whose sequence number is
// far beyond the window; its checksum is right.
func forged(packet []byte) []byte {
	f := append([]byte(nil), packet...)
	tcp := f[int(f[0]&15)*4:]
	const ahead = 0x2000 // in the upper half
	word := func(at int) uint32 { return uint32(tcp[at])<<8 | uint32(tcp[at+1]) }
	put := func(at int, v uint32) { tcp[at], tcp[at+1] = byte(v>>8), byte(v) }
	old := word(4)
	put(4, (old+ahead)&0xffff)
	sum := (^word(16) & 0xffff) + (^old & 0xffff) + word(4) // RFC 1624
	sum = sum>>16 + sum&0xffff
	put(16, ^(sum>>16+sum&0xffff)&0xffff)
	return f
}

// fates is how many packets had which.
func (w *wire) fates() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.sent)
}
