package probe

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// serviceEnv makes the test binary the service that is measured.
const (
	serviceEnv = "SLUICE_TEST_SERVICE"
	inNewNetns = "netns"
	listenEnv  = "SLUICE_TEST_LISTEN"
)

func TestMain(m *testing.M) {
	if os.Getenv(serviceEnv) != "" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serve answers on IPv4, IPv6, and on a socket that accepts with the first data:
// HTTP/1.x and, with prior knowledge, HTTP/2; and gRPC. The last line that it
// prints is a listening socket that it leaves to its parent.
func serve() error {
	if os.Getenv(serviceEnv) == inNewNetns {
		if err := bringUp("lo"); err != nil {
			return err
		}
	}
	go func() { // ends with its parent
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	web := newWebServer()
	done := make(chan error)
	for _, l := range []struct {
		option, value int
		addr          string
		serve         func(net.Listener) error
	}{
		{unix.SO_REUSEPORT, 1, cmp.Or(os.Getenv(listenEnv), "127.0.0.1:0"), web.Serve},
		{unix.SO_REUSEADDR, 1, "[::1]:0", web.Serve},
		{unix.TCP_DEFER_ACCEPT, 5, "127.0.0.1:0", web.Serve},
		{unix.SO_REUSEADDR, 1, "127.0.0.1:0", serveGRPC},
		{unix.SO_REUSEADDR, 1, "127.0.0.1:0", serveMany},
	} {
		listener, err := listen(l.addr, l.option, l.value)
		if err != nil {
			return err
		}
		fmt.Println(listener.Addr())
		go func() { done <- l.serve(listener) }()
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{})
	}
	if err == nil {
		err = unix.Listen(fd, 4096)
	}
	if err != nil {
		return err
	}
	fmt.Println(fd)
	return <-done
}

func newWebServer() *http.Server {
	s := &http.Server{Handler: handler(), ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	return s
}

// listen listens with a socket option. Plain TCP has them all.
func listen(addr string, option, value int) (net.Listener, error) {
	level := unix.SOL_SOCKET
	if option == unix.TCP_DEFER_ACCEPT {
		level = unix.IPPROTO_TCP
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, value) })
		return err
	}}
	config.SetMultipathTCP(false)
	return config.Listen(context.Background(), "tcp", addr)
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		code, _ := strconv.Atoi(r.URL.Query().Get("status"))
		size, _ := strconv.Atoi(r.URL.Query().Get("size"))
		wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
		time.Sleep(wait)
		w.WriteHeader(max(code, 200))
		if size > 0 {
			_, _ = io.WriteString(w, strings.Repeat("x", size))
		}
	})
	// The answer goes out while the body is still coming in.
	mux.HandleFunc("/early", func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		w.WriteHeader(202)
		_ = rc.Flush()
		_, _ = io.Copy(io.Discard, r.Body)
	})
	// Every segment of the body looks like an answer.
	mux.HandleFunc("/lookalike", func(w http.ResponseWriter, r *http.Request) {
		const line = "HTTP/1.1 500 Looks Like It\r\nContent-Length: 0\r\n\r\n"
		if r.URL.Query().Get("length") != "" {
			w.Header().Set("Content-Length", strconv.Itoa(5*len(line)))
		}
		for range 5 {
			_ = http.NewResponseController(w).Flush()
			time.Sleep(2 * time.Millisecond)
			_, _ = io.WriteString(w, line)
		}
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(103)
		w.WriteHeader(103)
		w.WriteHeader(200)
	})
	// It says how long it has taken so far, in the head and with the last byte.
	mux.HandleFunc("/timed", func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
		then, _ := time.ParseDuration(r.URL.Query().Get("then"))
		time.Sleep(wait)
		w.Header().Set("X-Took", time.Since(begin).String())
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		time.Sleep(then)
		_, _ = fmt.Fprintln(w, time.Since(begin))
	})
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
		_ = http.NewResponseController(w).Flush() // chunked, hence
		w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
	})
	mux.HandleFunc("/long", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 10 {
			w.Header().Set(fmt.Sprint("X-Long-", i), strings.Repeat("long", 1000))
		}
	})
	mux.HandleFunc("/raw", raw)
	return mux
}

// raw sends the parts of the query, each in a segment of its own, and hangs up
// if the last one is empty.
func raw(w http.ResponseWriter, r *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	parts := r.URL.Query()["part"]
	for _, part := range parts {
		_, _ = c.Write([]byte(part))
		time.Sleep(3 * time.Millisecond)
	}
	if len(parts) > 0 && parts[len(parts)-1] != "" {
		_, _ = rw.Read(make([]byte, 1)) // until the client has enough
	}
}

// service is a child process in a control group of its own.
type service struct {
	group, parent              string
	v4, v6, defer4, grpc, many string
	raw                        net.Listener // of the service's, but the test accepts; at any address of IPv4
	pid                        int
	kill                       func()
}

// place is where a service runs; the zero value: anywhere.
type place struct {
	group  string // an existing control group
	listen string // the address of v4
	netns  bool   // a network namespace of its own
}

func start(t testing.TB) *service {
	t.Helper()
	return startAt(t, place{})
}

func startAt(t testing.TB, at place) *service {
	t.Helper()
	testenv.NeedRoot(t)
	if at.group == "" {
		at.group = testenv.TempCgroup(t) + "/service"
		if err := os.Mkdir(at.group, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := &service{parent: filepath.Dir(at.group), group: at.group}
	dir, err := os.Open(s.group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	pidfd := -1
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), serviceEnv+"=1", listenEnv+"="+at.listen)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), PidFD: &pidfd}
	if at.netns {
		cmd.Env = append(cmd.Env, serviceEnv+"="+inNewNetns)
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNET
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// The kernel's signal for a parent that dies means the thread that forked, and
	// tests of network namespaces end threads.
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	s.pid = cmd.Process.Pid
	s.kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(s.kill)
	var fd string
	lines := bufio.NewScanner(out)
	for _, line := range []*string{&s.v4, &s.v6, &s.defer4, &s.grpc, &s.many, &fd} {
		if !lines.Scan() {
			t.Fatal("the service did not start")
		}
		*line = lines.Text()
	}
	s.raw = taken(t, pidfd, fd)
	return s
}

// taken is a listening socket of another process, which the test may use as its
// own. To the kernel it stays in the control group where it was made.
func taken(t testing.TB, pidfd int, number string) net.Listener {
	t.Helper()
	theirs, _ := strconv.Atoi(number)
	fd, err := unix.PidfdGetfd(pidfd, theirs, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// watch attaches a probe to the service.
func (s *service) watch(t testing.TB, opts Options) *Probe {
	t.Helper()
	p, err := Load(Object(), bpf.DigestOf(Object()), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	if err := p.Attach(s.parent); err != nil {
		t.Fatal(err)
	}
	return p
}

// total adds up all workloads.
func total(t testing.TB, p *Probe) (Counts, Snapshot) {
	t.Helper()
	snap, err := p.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var sum Counts
	for _, c := range snap.Workloads {
		sum.merge(&c)
	}
	return sum, snap
}

// patience is how long a test waits for what has to come, on however busy a
// machine.
const patience = time.Minute

// eventually reads the counts until they are as wanted: what happens at the end of
// an exchange is seen a little later. A loss fails the test.
func eventually(t testing.TB, p *Probe, good func(Counts) bool) Counts {
	t.Helper()
	got, snap := total(t, p)
	for deadline := time.Now().Add(patience); !good(got) && time.Now().Before(deadline); got, snap = total(t, p) {
		time.Sleep(5 * time.Millisecond)
	}
	snap.Loss.Exemplars = 0
	if snap.Loss != (Loss{}) {
		t.Errorf("lost %+v", snap.Loss)
	}
	return got
}

// merge adds what another workload counted.
func (c *Counts) merge(o *Counts) {
	for _, n := range []struct{ sum, more *uint64 }{
		{&c.Begun, &o.Begun},
		{&c.Requests, &o.Requests},
		{&c.Aborted, &o.Aborted},
		{&c.Truncated, &o.Truncated},
		{&c.Connections, &o.Connections},
		{&c.Resets, &o.Resets},
		{&c.Segments, &o.Segments},
		{&c.Retransmits, &o.Retransmits},
		{&c.BytesIn, &o.BytesIn},
		{&c.BytesOut, &o.BytesOut},
	} {
		*n.sum += *n.more
	}
	for i, n := range o.Classes {
		c.Classes[i] += n
	}
	for i, n := range o.GRPC {
		c.GRPC[i] += n
	}
	c.LatencySum += o.LatencySum
	c.Latency.Merge(&o.Latency)
	c.Complete.Merge(&o.Complete)
}
