package agent

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/bundle"
	"github.com/sluice-cd/sluice/internal/objects"
	"github.com/sluice-cd/sluice/internal/sign"
	"github.com/sluice-cd/sluice/internal/testenv"
	"github.com/sluice-cd/sluice/internal/wire"
)

// What the test binary is besides: the service that is measured, or its clients.
const (
	serviceEnv = "SLUICE_TEST_SERVICE"
	clientEnv  = "SLUICE_TEST_CLIENT"
)

func TestMain(m *testing.M) {
	switch {
	case SelfTestChild():
	case os.Getenv(clientEnv) != "":
		ask(os.Getenv(clientEnv))
	case os.Getenv(serviceEnv) != "":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr())
		panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 20_000)) // a few segments
		})))
	default:
		os.Exit(m.Run())
	}
}

// lab is a service in a control group, and an agent that measures it.
type lab struct {
	t      *testing.T
	agent  *Agent
	client *wire.Client
	group  string // measured; the service is in a group below it
	socket string
	url    string
	signer *sign.Signer
	log    *safeBuffer
	stop   func() error
}

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// newLab runs an agent in this process, which therefore keeps its privileges.
func newLab(t *testing.T, change func(*Config)) *lab {
	t.Helper()
	l := &lab{t: t, group: testenv.TempCgroup(t), log: &safeBuffer{}}
	l.serve()
	var err error
	if l.signer, err = ours(); err != nil {
		t.Fatal(err)
	}
	public, err := bundle.ParseKey(l.signer.PublicPEM())
	if err != nil {
		t.Fatal(err)
	}
	history, err := objects.Dir(t.TempDir(), "node-1")
	if err != nil {
		t.Fatal(err)
	}
	l.socket = filepath.Join(t.TempDir(), "probe.sock")
	cfg := Config{
		Cgroup: l.group, Object: BuiltIn(), Keys: []*ecdsa.PublicKey{public}, History: history, Interval: 100 * time.Millisecond,
		Probation: time.Second, Listen: []string{"unix:" + l.socket}, UnsafeUnconfined: true, Log: slog.New(slog.NewTextHandler(l.log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	l.run(cfg)
	return l
}

// ours and stranger sign for all tests: to open a key takes seconds under the
// race detector.
var ours, stranger = sync.OnceValues(newSigner), sync.OnceValues(newSigner)

func newSigner() (*sign.Signer, error) {
	dir, err := os.MkdirTemp("", "sluice-agent-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	key, _, err := sign.GenerateKey(dir, nil)
	if err != nil {
		return nil, err
	}
	return sign.OpenSigner(key, nil)
}

// run is Run, in the background, with a way to the agent.
func (l *lab) run(cfg Config) {
	l.t.Helper()
	l.agent = newAgent(cfg)
	listeners, err := openListeners(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := l.agent.load(); err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.agent.serve(ctx, listeners) }()
	l.stop = sync.OnceValue(func() error {
		cancel()
		err := <-done
		closeAll(listeners)
		if closing := l.agent.unload(); err == nil {
			err = closing
		}
		return err
	})
	l.t.Cleanup(func() {
		if err := l.stop(); err != nil {
			l.t.Errorf("ending: %v", err)
		}
		if l.t.Failed() {
			l.t.Log(l.log)
		}
	})
	if l.client, err = wire.Dial("unix:"+l.socket, wire.Config{}); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(l.client.Close)
	l.eventually("the agent to serve", func() bool { return l.get("/healthz") == http.StatusOK })
}

// serve starts the service.
func (l *lab) serve() {
	l.t.Helper()
	group := filepath.Join(l.group, "service")
	if err := os.Mkdir(group, 0o755); err != nil {
		l.t.Fatal(err)
	}
	l.url = "http://" + l.child(group, serviceEnv+"=1")
}

// child runs the test binary in a control group, as something else, and returns
// the first thing that it says.
func (l *lab) child(group, env string) string {
	l.t.Helper()
	dir, err := os.Open(group)
	if err != nil {
		l.t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), env)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		l.t.Fatalf("%s did not start", env)
	}
	return lines.Text()
}

// request asks the service n times.
func (l *lab) request(n int) {
	l.t.Helper()
	for range n {
		resp, err := http.Get(l.url)
		if err != nil {
			l.t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

// snapshot asks the agent, as the gate does.
func (l *lab) snapshot() wire.Status {
	l.t.Helper()
	s, err := l.client.Snapshot(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

func requests(s wire.Status) (n uint64) {
	for w, c := range s.Workloads {
		if !w.Outgoing() {
			n += c.Requests
		}
	}
	return n
}

// get asks the agent's socket for a path and returns the status.
func (l *lab) get(path string) int {
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", l.socket)
		},
	}}
	resp, err := client.Get("http://probe" + path)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// patience is how long a test waits for what has to come, on however busy a
// machine.
const patience = 2 * time.Minute

func (l *lab) eventually(what string, is func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("waited %v for %s\n%s", patience, what, l.log)
		}
	}
}

// sign makes a bundle for an object.
func (l *lab) sign(object []byte) []byte {
	l.t.Helper()
	b, err := l.signer.Blob(l.t.Context(), object)
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

// other is the built-in object from a compiler of another name: another digest.
func other(t *testing.T) []byte {
	t.Helper()
	obj := bytes.Replace(probe.Object(), []byte("19.1.7"), []byte("19.9.9"), 1)
	if bytes.Equal(obj, probe.Object()) {
		t.Fatal("the object does not name its compiler")
	}
	return obj
}

// linkOf opens a link of the probe by its id, as anybody with the privilege can.
func linkOf(t *testing.T, loaded bpf.Loaded, program string) link.Link {
	t.Helper()
	for _, p := range loaded.Programs {
		if p.Name == program {
			l, err := link.NewFromID(link.ID(p.LinkID))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			return l
		}
	}
	t.Fatalf("no program %s", program)
	return nil
}

// skb is a program of our own: what it returns decides whether a packet passes.
func skb(t *testing.T, attach ebpf.AttachType, ins ...asm.Instruction) *ebpf.Program {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSKB, AttachType: attach, License: "GPL", Instructions: append(ins, asm.Return()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	return prog
}

// blind lets everything pass and sees nothing.
func blind(t *testing.T, attach ebpf.AttachType) *ebpf.Program {
	return skb(t, attach, asm.Mov.Imm(asm.R0, 1))
}
