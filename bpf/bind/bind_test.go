package bind

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// serviceEnv makes the test binary a process that does what its arguments say
// and then answers every connection with its name.
const serviceEnv = "SLUICE_TEST_SERVICE"

func TestMain(m *testing.M) {
	if name := os.Getenv(serviceEnv); name != "" {
		for _, do := range os.Args[1:] {
			fmt.Println(act(name, do))
		}
		select {}
	}
	os.Exit(m.Run())
}

// act does "listen ADDR", "rebind ADDR" (listen, close, listen), "share ADDR"
// (listen with SO_REUSEPORT), "udp ADDR" or "dial ADDR", and says what came of
// it: the address, or the error.
func act(name, do string) string {
	what, addr, _ := strings.Cut(do, " ")
	config := net.ListenConfig{}
	switch what {
	case "udp":
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err.Error()
		}
		return c.LocalAddr().String()
	case "dial":
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err.Error()
		}
		return c.LocalAddr().String()
	case "share":
		config.Control = func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		}
	case "rebind":
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err.Error()
		}
		_ = l.Close()
	}
	l, err := config.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return err.Error()
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, name)
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// run starts a service in a group and returns what each act came to.
func run(t *testing.T, group, name string, acts ...string) (results []string, pid int) {
	t.Helper()
	dir, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("/proc/self/exe", acts...)
	cmd.Env = append(os.Environ(), serviceEnv+"="+name)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for range acts {
		if !lines.Scan() {
			t.Fatalf("service %s said nothing", name)
		}
		results = append(results, lines.Text())
	}
	return results, cmd.Process.Pid
}

// moved is a new group whose ports are moved.
func moved(t *testing.T) (string, *Mover) {
	t.Helper()
	group := testenv.TempCgroup(t)
	m, err := Attach(group)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return group, m
}

func port(t *testing.T, result string) uint16 {
	t.Helper()
	at, err := netip.ParseAddrPort(result)
	if err != nil {
		t.Fatalf("the service said %q", result)
	}
	return at.Port()
}

func who(addr string) string {
	c, err := net.DialTimeout("tcp", addr, 3*time.Second)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	name, _ := io.ReadAll(c)
	return string(name)
}

// freePort is one that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, p, _ := net.SplitHostPort(l.Addr().String())
	return p
}

// listeners opens the listening sockets of a process, by cookie.
func listeners(t *testing.T, pid int) map[uint64]int {
	t.Helper()
	p, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p)
	found := map[uint64]int{}
	for fd := range 64 {
		got, err := unix.PidfdGetfd(p, fd, 0)
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = unix.Close(got) })
		if on, err := unix.GetsockoptInt(got, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && on == 1 {
			cookie, err := unix.GetsockoptUint64(got, unix.SOL_SOCKET, unix.SO_COOKIE)
			if err != nil {
				t.Fatal(err)
			}
			found[cookie] = got
		}
	}
	return found
}

func TestTwoVersionsWithTheSamePortLiveSideBySide(t *testing.T) {
	p := freePort(t)
	addrs := map[string]string{}
	for _, name := range []string{"stable", "canary"} {
		group, m := moved(t)
		results, pid := run(t, group, name, "listen 127.0.0.1:"+p)
		addrs[name] = results[0]
		if got := port(t, results[0]); fmt.Sprint(got) == p {
			t.Errorf("%s got the port that it asked for", name)
		}
		for cookie, fd := range listeners(t, pid) {
			if asked, ok := m.Requested(cookie); !ok || fmt.Sprint(asked) != p {
				t.Errorf("%s had asked for %d, %v; want %s", name, asked, ok, p)
			}
			if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || kind != unix.IPPROTO_TCP {
				t.Errorf("%s listens with protocol %d, want plain TCP, which a sockmap takes", name, kind)
			}
		}
		if _, ok := m.Requested(1 << 62); ok {
			t.Error("a socket that does not exist was moved")
		}
	}
	for name, addr := range addrs {
		if got := who(addr); got != name {
			t.Errorf("at %s is %q, want %q", addr, got, name)
		}
	}
}

func TestSharingAPortIsAsItWas(t *testing.T) {
	p := freePort(t)
	for name, tt := range map[string]struct {
		acts []string
		same bool // the second one gets the port of the first
		err  string
	}{
		"SO_REUSEPORT shares":              {[]string{"share 127.0.0.1:" + p, "share 127.0.0.1:" + p}, true, ""},
		"IPv4 and IPv6 share":              {[]string{"listen 127.0.0.1:" + p, "listen [::1]:" + p}, true, ""},
		"a second socket is refused":       {[]string{"listen 127.0.0.1:" + p, "listen 127.0.0.1:" + p}, false, "address already in use"},
		"another port is another":          {[]string{"listen 127.0.0.1:" + p, "listen 127.0.0.1:1"}, false, ""},
		"a port can be bound again":        {[]string{"rebind 127.0.0.1:" + p, "listen [::1]:" + p}, true, ""},
		"every address, and one beside it": {[]string{"listen :" + p, "listen 127.0.0.1:" + p}, false, "address already in use"},
	} {
		t.Run(name, func(t *testing.T) {
			group, _ := moved(t)
			results, _ := run(t, group, name, tt.acts...)
			first := port(t, results[0])
			if tt.err != "" {
				if !strings.Contains(results[1], tt.err) {
					t.Errorf("the second said %q, want %q", results[1], tt.err)
				}
				return
			}
			if second := port(t, results[1]); (first == second) != tt.same {
				t.Errorf("the first got %d, the second %d", first, second)
			}
		})
	}
}

func TestThePortOfAClosedSocketIsForgotten(t *testing.T) {
	group, m := moved(t)
	run(t, group, "rebinding", "rebind 127.0.0.1:8080", "rebind 127.0.0.1:8081")
	var asked uint32
	var to moverGiven
	n := 0
	for it := m.objs.Moved.Iterate(); it.Next(&asked, &to); n++ {
		if asked != 8080 && asked != 8081 {
			t.Errorf("port %d was moved", asked)
		}
	}
	var cookie uint64
	k := 0
	for it := m.objs.Requested.Iterate(); it.Next(&cookie, &asked); k++ {
	}
	if n != 2 || k != 2 {
		t.Errorf("%d ports and %d sockets are remembered, want those of the two that are open", n, k)
	}
}

func TestNothingElseIsMoved(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := freePort(t)
	group, m := moved(t)
	results, _ := run(t, group, "x", "udp 127.0.0.1:"+p, "dial "+l.Addr().String(), "listen 127.0.0.1:0")
	if got := fmt.Sprint(port(t, results[0])); got != p {
		t.Errorf("a UDP socket was moved from %s to %s", p, got)
	}
	port(t, results[1])
	port(t, results[2])
	outside := testenv.TempCgroup(t)
	results, _ = run(t, outside, "y", "listen 127.0.0.1:"+p)
	if got := fmt.Sprint(port(t, results[0])); got != p {
		t.Errorf("a service in another group was moved from %s to %s", p, got)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	q := freePort(t)
	results, _ = run(t, group, "z", "listen 127.0.0.1:"+q)
	if got := fmt.Sprint(port(t, results[0])); got != q {
		t.Errorf("after Close a service was moved from %s to %s", q, got)
	}
}

func TestMultipathIsRefusedInTheGroupOnly(t *testing.T) {
	if on, err := os.ReadFile("/proc/sys/net/mptcp/enabled"); err != nil || strings.TrimSpace(string(on)) != "1" {
		t.Skip("this kernel has no MPTCP")
	}
	group, _ := moved(t)
	results, pid := run(t, group, "x", "listen 127.0.0.1:0")
	port(t, results[0])
	for _, fd := range listeners(t, pid) {
		if kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); kind == unix.IPPROTO_MPTCP {
			t.Error("the service listens with MPTCP")
		}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	if err != nil {
		t.Fatalf("outside of the group: %v", err)
	}
	_ = unix.Close(fd)
}

func TestOnlyAControlGroupCanBeAttachedTo(t *testing.T) {
	testenv.NeedRoot(t)
	for name, dir := range map[string]string{"an ordinary folder": t.TempDir(), "nothing": t.TempDir() + "/nothing"} {
		if _, err := Attach(dir); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("attaching to %s: %v", name, err)
		}
	}
}
