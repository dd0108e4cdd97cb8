package split

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// versionEnv makes the test binary a version of a service, which answers every
// connection with its name.
const versionEnv = "SLUICE_TEST_VERSION"

func TestMain(m *testing.M) {
	if version := os.Getenv(versionEnv); version != "" {
		serve(version, os.Args[1])
	}
	os.Exit(m.Run())
}

func serve(version, addr string) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		_, _ = io.WriteString(c, version)
		_ = c.Close()
	}
}

// version is a running one.
type version struct {
	cmd  *exec.Cmd
	addr string
}

func run(t *testing.T, name, addr string, env ...string) *version {
	t.Helper()
	v := &version{cmd: exec.Command("/proc/self/exe", addr)}
	v.cmd.Env = append(append(os.Environ(), versionEnv+"="+name), env...)
	v.cmd.Stderr = os.Stderr
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.kill)
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("version %s did not start", name)
	}
	v.addr = lines.Text()
	return v
}

func (v *version) kill() {
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
}

// listener takes the listening socket of the running process.
func (v *version) listener(t *testing.T) int {
	t.Helper()
	pid, err := unix.PidfdOpen(v.cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pid)
	for fd := 3; fd < 64; fd++ {
		got, err := unix.PidfdGetfd(pid, fd, 0)
		if err != nil {
			continue
		}
		if on, err := unix.GetsockoptInt(got, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && on == 1 {
			return got
		}
		_ = unix.Close(got)
	}
	t.Fatal("the version has no listening socket")
	return -1
}

const plain = "GODEBUG=multipathtcp=0"

// pinDir is a folder on a BPF file system of the test's own.
func pinDir(t *testing.T) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		left = slices.DeleteFunc(left, func(f string) bool { return strings.HasSuffix(f, ".debug") }) // the kernel's own
		if err != nil || len(left) > 0 {
			t.Errorf("left behind on the BPF file system: %v %v", left, err)
		}
		_ = unix.Unmount(dir, 0)
	})
	return filepath.Join(dir, "front")
}

// freePort is one that nobody listens on.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

func open(t *testing.T, dir string, front netip.AddrPort) *Splitter {
	t.Helper()
	s, err := Open(dir, front)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Close()
		if err := RemovePins(dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

// set puts a version into a slot.
func set(t *testing.T, s *Splitter, slot Slot, v *version) {
	t.Helper()
	fd := v.listener(t)
	defer unix.Close(fd)
	if err := s.SetSocket(slot, fd); err != nil {
		t.Fatal(err)
	}
}

// ask makes n connections and counts who answered; "" is nobody.
func ask(front string, n int) map[string]int {
	var mu sync.Mutex
	var wg sync.WaitGroup
	got := map[string]int{}
	jobs := make(chan struct{}, n)
	for range n {
		jobs <- struct{}{}
	}
	close(jobs)
	for range 8 {
		wg.Go(func() {
			for range jobs {
				who := askOnce(front)
				mu.Lock()
				got[who]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return got
}

func askOnce(front string) string {
	c, err := net.DialTimeout("tcp", front, 3*time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	name, _ := io.ReadAll(c)
	return string(name)
}

// pair is a splitter with two versions.
func pair(t *testing.T, host string) (s *Splitter, front string, v [2]*version, dir string) {
	t.Helper()
	dir = pinDir(t)
	at := netip.AddrPortFrom(netip.MustParseAddr(host), freePort(t))
	s = open(t, dir, at)
	for i, name := range []string{"stable", "canary"} {
		v[i] = run(t, name, net.JoinHostPort(host, "0"), plain)
		set(t, s, Slot(i), v[i])
	}
	return s, at.String(), v, dir
}

func TestConnectionsAreDividedByWeight(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			s, front, _, _ := pair(t, host)
			const n = 2000
			for _, share := range []uint32{0, 500, 2000, 5000, Full} {
				if err := s.SetWeight(share); err != nil {
					t.Fatal(err)
				}
				before, err := s.Connections()
				if err != nil {
					t.Fatal(err)
				}
				got := ask(front, n)
				after, err := s.Connections()
				if err != nil {
					t.Fatal(err)
				}
				want := n * int(share) / Full
				// Five standard deviations of a fair draw are at most 112.
				if d := got["canary"] - want; got["stable"]+got["canary"] != n || d > 112 || d < -112 || (want == 0 && d != 0) || (want == n && d != 0) {
					t.Errorf("share %d: %v, want %d for the canary", share, got, want)
				}
				for slot, name := range []string{"stable", "canary"} {
					if counted := after[slot].Assigned - before[slot].Assigned; counted != uint64(got[name]) || after[slot].Fallback != 0 {
						t.Errorf("share %d: counted %d for %s, it answered %d", share, counted, name, got[name])
					}
				}
				if w, err := s.Weight(); err != nil || w != share {
					t.Errorf("Weight says %d, %v", w, err)
				}
			}
			if err := s.SetWeight(Full + 1); err == nil {
				t.Error("a weight of more than everything was accepted")
			}
		})
	}
}

func TestAFrontWithoutAddressIsEveryAddress(t *testing.T) {
	dir := pinDir(t)
	port := freePort(t)
	s := open(t, dir, netip.AddrPortFrom(netip.IPv4Unspecified(), port))
	set(t, s, 0, run(t, "dual", "[::]:0", plain))
	set(t, s, 1, run(t, "v4", "127.0.0.1:0", plain))
	if err := s.SetWeight(Full); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{"127.0.0.1": "v4", "127.9.8.7": "v4", "::1": "dual"} {
		if got := ask(net.JoinHostPort(addr, fmt.Sprint(port)), 20); got[want] != 20 {
			t.Errorf("%s: %v, want %s: an IPv6 connection falls back from an IPv4 socket", addr, got, want)
		}
	}
}

func TestWhenAVersionDiesNoNewConnectionFails(t *testing.T) {
	s, front, v, _ := pair(t, "127.0.0.1")
	if err := s.SetWeight(Full / 2); err != nil {
		t.Fatal(err)
	}
	ask(front, 100)
	v[1].kill()
	if got := ask(front, 1000); got["stable"] != 1000 {
		t.Errorf("after the canary's death: %v", got)
	}
	if _, ok, err := s.Occupied(1); ok || err != nil {
		t.Errorf("the dead version's slot is occupied: %v %v", ok, err)
	}
	counts, err := s.Connections()
	if err != nil || counts[0].Fallback < 300 {
		t.Errorf("counted %+v, %v; about half of 1000 are fallbacks", counts, err)
	}
	set(t, s, 1, run(t, "again", "127.0.0.1:0", plain))
	if got := ask(front, 1000); got["stable"]+got["again"] != 1000 || got["again"] < 350 {
		t.Errorf("after its return: %v", got)
	}
	if err := s.ClearSocket(1); err != nil {
		t.Fatal(err)
	}
	if err := s.ClearSocket(1); err != nil {
		t.Errorf("emptying an empty slot: %v", err)
	}
	if got := ask(front, 200); got["stable"] != 200 {
		t.Errorf("after the slot was emptied: %v", got)
	}
	v[0].kill()
	if got := ask(front, 5); got[""] != 5 {
		t.Errorf("with both slots empty: %v", got)
	}
}

func TestShiftingUnderLoadFailsNoConnection(t *testing.T) {
	s, front, _, _ := pair(t, "127.0.0.1")
	done := make(chan map[string]int)
	go func() { done <- ask(front, 4000) }()
	for i := range uint32(200) {
		if err := s.SetWeight(i * 50 % (Full + 1)); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	if got := <-done; got[""] != 0 || got["stable"]+got["canary"] != 4000 {
		t.Errorf("%v", got)
	}
}

func TestSocketsThatCannotTakeConnectionsAreRefused(t *testing.T) {
	dir := pinDir(t)
	s := open(t, dir, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t)))
	multipath := run(t, "multipath", "127.0.0.1:0", "GODEBUG=multipathtcp=1").listener(t)
	defer unix.Close(multipath)
	var mp *MultipathError
	if err := s.SetSocket(0, multipath); !errors.As(err, &mp) || !errors.Is(err, unix.EOPNOTSUPP) || !strings.Contains(mp.Hint(), "multipathtcp=0") || !strings.Contains(err.Error(), "Multipath TCP") {
		t.Errorf("an MPTCP socket: %v", err)
	}
	udp, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(udp)
	tcp, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(tcp)
	var refused *SocketError
	for name, fd := range map[string]int{"a UDP socket": udp, "one that does not listen": tcp, "no socket": 0, "no file": 9999} {
		if err := s.SetSocket(0, fd); !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), "not a socket that new connections can be given to: ") {
			t.Errorf("%s: %v, want a SocketError", name, err)
		}
	}
	if err := s.SetSocket(2, run(t, "third", "127.0.0.1:0", plain).listener(t)); err == nil {
		t.Error("there is a third slot")
	}
	if _, ok, _ := s.Occupied(0); ok {
		t.Error("something got into the slot")
	}
}

func TestOpenOutsideTheBPFFileSystemLeavesNothing(t *testing.T) {
	testenv.NeedRoot(t)
	dir := filepath.Join(t.TempDir(), "front")
	if _, err := Open(dir, netip.MustParseAddrPort("127.0.0.1:1")); err == nil {
		t.Fatal("pinned on an ordinary file system")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}
