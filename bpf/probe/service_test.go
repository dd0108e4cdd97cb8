package probe

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
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
const serviceEnv = "SLUICE_TEST_SERVICE"

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

// serve answers on IPv4, IPv6, and on a socket that accepts with the first data.
func serve() error {
	deferred := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		_ = c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 5)
		})
		return err
	}}
	deferred.SetMultipathTCP(false)
	server := http.Server{Handler: handler(), ReadHeaderTimeout: time.Minute}
	done := make(chan error)
	for _, l := range []struct {
		config net.ListenConfig
		addr   string
	}{{addr: "127.0.0.1:0"}, {addr: "[::1]:0"}, {deferred, "127.0.0.1:0"}} {
		listener, err := l.config.Listen(context.Background(), "tcp", l.addr)
		if err != nil {
			return err
		}
		fmt.Println(listener.Addr())
		go func() { done <- server.Serve(listener) }()
	}
	return <-done
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
	group, parent  string
	v4, v6, defer4 string
	kill           func()
}

func start(t testing.TB) *service {
	t.Helper()
	testenv.NeedRoot(t)
	s := &service{parent: testenv.TempCgroup(t)}
	s.group = s.parent + "/service"
	if err := os.Mkdir(s.group, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(s.group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), serviceEnv+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(s.kill)
	lines := bufio.NewScanner(out)
	for _, addr := range []*string{&s.v4, &s.v6, &s.defer4} {
		if !lines.Scan() {
			t.Fatal("the service did not start")
		}
		*addr = lines.Text()
	}
	return s
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
		sum.Requests += c.Requests
		sum.Aborted += c.Aborted
		sum.Retransmits += c.Retransmits
		for i, n := range c.Classes {
			sum.Classes[i] += n
		}
		sum.Latency.Merge(&c.Latency)
	}
	return sum, snap
}

// conn is a client that decides what goes into which segment.
type conn struct {
	net.Conn
	in *bufio.Reader
	t  testing.TB
}

func dial(t testing.TB, addr string) *conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
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
