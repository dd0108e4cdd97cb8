package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sluice-cd/sluice/internal/wire"
)

// exits CODE PROGRAM ARG... runs a program that has to end with the exit status.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := status(ts, ts.Exec(args[1], args[2:]...)); got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func status(ts *testscript.TestScript, err error) int {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		ts.Check(err)
		return 0
	}
	return exit.ExitCode()
}

// daemons are those that run, by script.
var daemons sync.Map

// start ARG... starts sluice-probe and waits until it answers; what it writes
// goes to log.
func start(ts *testscript.TestScript, _ bool, args []string) {
	program, err := binary()
	ts.Check(err)
	if runtime := ts.Getenv("CONTAINED"); runtime != "" {
		program, args = runtime, append([]string{program}, args...)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "GOCOVERDIR", "SLUICE_PROBE_CGROUP", "SLUICE_PROBE_PIN", "SLUICE_PROBE_LISTEN", "SLUICE_PROBE_HISTORY", "SLUICE_PROBE_INTERVAL", "SLUICE_PROBE_PROBATION"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Stderr, err = os.OpenFile(ts.MkAbs("log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	ts.Check(err)
	if ts.Getenv("CONTAINED") != "" {
		dir, err := os.Open(ts.Getenv("CGROUP"))
		ts.Check(err)
		defer dir.Close()
		cmd.SysProcAttr = inGroup(dir)
	}
	ts.Check(cmd.Start())
	daemons.Store(ts.Name(), cmd)
	ts.Defer(func() {
		if c, ok := daemons.LoadAndDelete(ts.Name()); ok {
			_ = c.(*exec.Cmd).Process.Kill()
			_ = c.(*exec.Cmd).Wait()
		}
	})
	eventually(ts, "the daemon to serve", func() bool {
		_, err := ask(ts, "/healthz")
		return err == nil
	})
}

// patience is how long a test waits for what has to come, on however busy a
// machine.
const patience = 2 * time.Minute

func eventually(ts *testscript.TestScript, what string, is func() bool) {
	for deadline := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(ts.MkAbs("log"))
			ts.Fatalf("waited %v for %s\n%s", patience, what, log)
		}
	}
}

// ends CODE SIGNAL sends a signal to the daemon, which has to end with that
// status; -1 is that of one that was killed.
func ends(ts *testscript.TestScript, _ bool, args []string) {
	v, ok := daemons.LoadAndDelete(ts.Name())
	if !ok {
		ts.Fatalf("no daemon runs")
	}
	cmd := v.(*exec.Cmd)
	ts.Check(cmd.Process.Signal(map[string]os.Signal{"INT": os.Interrupt, "KILL": os.Kill, "TERM": syscall.SIGTERM}[args[1]]))
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	timer.Stop()
	if got := strconv.Itoa(status(ts, err)); got != args[0] {
		ts.Fatalf("exit status %s, want %s\n%s", got, args[0], ts.ReadFile("log"))
	}
}

// contained makes start do it as a container runtime does: with the seccomp
// profile on, and in the control group that is measured.
func contained(ts *testscript.TestScript, _ bool, _ []string) {
	program := ts.MkAbs("underprofile")
	cmd := exec.Command("go", "build", "-o", program, "./testdata/underprofile")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		ts.Fatalf("%v: %s", err, out)
	}
	ts.Setenv("CONTAINED", program)
}

// service starts a service in the control group.
func service(ts *testscript.TestScript, _ bool, _ []string) {
	group := filepath.Join(ts.Getenv("CGROUP"), "service")
	ts.Check(os.Mkdir(group, 0o755))
	dir, err := os.Open(group)
	ts.Check(err)
	defer dir.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), serviceEnv+"=1")
	cmd.SysProcAttr = inGroup(dir)
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	address := make([]byte, 64)
	n, err := out.Read(address)
	ts.Check(err)
	ts.Setenv("SERVICE", strings.TrimSpace(string(address[:n])))
}

// request N asks the service.
func request(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	for range n {
		resp, err := http.Get("http://" + ts.Getenv("SERVICE"))
		ts.Check(err)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

// counted N waits until the probe has counted that many requests, no more.
func counted(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.ParseUint(args[0], 10, 64)
	ts.Check(err)
	var got uint64
	eventually(ts, args[0]+" requests", func() bool {
		s, err := client(ts).Snapshot(context.Background())
		if err != nil {
			return false
		}
		got = 0
		for w, c := range s.Workloads {
			if !w.Outgoing() {
				got += c.Requests
			}
		}
		return got >= want
	})
	if got != want {
		ts.Fatalf("%d requests were counted, want %s", got, args[0])
	}
}

func client(ts *testscript.TestScript) *wire.Client {
	c, err := wire.Dial(ts.Getenv("SLUICE_PROBE_LISTEN"), wire.Config{})
	ts.Check(err)
	ts.Defer(c.Close)
	return c
}

// ask sends a GET to the daemon's socket.
func ask(ts *testscript.TestScript, path string) (*http.Response, error) {
	socket := strings.TrimPrefix(ts.Getenv("SLUICE_PROBE_LISTEN"), "unix:")
	c := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	return c.Get("http://probe" + path)
}

// get PATH STATUS TEXT... asks the daemon until the answer has the status and
// holds each text: what goes into the history comes there a moment later.
func get(ts *testscript.TestScript, _ bool, args []string) {
	var got string
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		resp, err := ask(ts, args[0])
		ts.Check(err)
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		ts.Check(err)
		got = fmt.Sprintf("%s\n%s", resp.Status, body)
		missing := slices.ContainsFunc(args[2:], func(text string) bool { return !bytes.Contains(body, []byte(text)) })
		if fmt.Sprint(resp.StatusCode) == args[1] && !missing {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s answers %s\nwant %q", args[0], got, args[1:])
		}
	}
}

// swap OBJECT BUNDLE [ERROR] sends an object.
func swap(ts *testscript.TestScript, neg bool, args []string) {
	_, err := client(ts).Swap(context.Background(), []byte(ts.ReadFile(args[0])), []byte(ts.ReadFile(args[1])))
	if !neg {
		ts.Check(err)
	} else if err == nil || !strings.Contains(err.Error(), args[2]) {
		ts.Fatalf("%v, want %q", err, args[2])
	}
}

// rollback goes back.
func rollback(ts *testscript.TestScript, _ bool, _ []string) {
	_, err := client(ts).Rollback(context.Background())
	ts.Check(err)
}

// attack replaces a program of the daemon's through its link, as anybody with
// the privilege can, and waits until it is put right.
func attack(ts *testscript.TestScript, _ bool, _ []string) {
	s, err := client(ts).Snapshot(context.Background())
	ts.Check(err)
	for _, p := range s.Loaded.Programs {
		if p.Name != "egress" {
			continue
		}
		l, err := link.NewFromID(link.ID(p.LinkID))
		ts.Check(err)
		defer l.Close()
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
		})
		ts.Check(err)
		defer prog.Close()
		ts.Check(l.Update(prog))
	}
	eventually(ts, "the repair", func() bool {
		s, err := client(ts).Snapshot(context.Background())
		return err == nil && strings.Contains(s.Mismatch, "repaired after")
	})
}

// untouched makes sure that nothing is left of a daemon: no program, no pin, no
// socket, no control group.
func untouched(ts *testscript.TestScript, neg bool, _ []string) {
	var left []string
	dir, err := os.Open(ts.Getenv("CGROUP"))
	ts.Check(err)
	defer dir.Close()
	for _, attach := range []ebpf.AttachType{ebpf.AttachCGroupInetIngress, ebpf.AttachCGroupInetEgress, ebpf.AttachCGroupSockOps} {
		got, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: attach})
		ts.Check(err)
		if len(got.Programs) > 0 {
			left = append(left, fmt.Sprintf("%d programs at %v", len(got.Programs), attach))
		}
	}
	groups, err := filepath.Glob(filepath.Join(ts.Getenv("CGROUP"), "sluice-probe-*"))
	ts.Check(err)
	left = append(left, groups...)
	for _, path := range []string{ts.Getenv("PIN"), strings.TrimPrefix(ts.Getenv("SLUICE_PROBE_LISTEN"), "unix:")} {
		if _, err := os.Lstat(path); err == nil {
			left = append(left, path)
		}
	}
	if (len(left) == 0) == neg {
		ts.Fatalf("left behind: %v", left)
	}
}

// listen VAR holds a port until the script ends.
func listen(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], l.Addr().String())
	ts.Defer(func() { _ = l.Close() })
}

// collector VAR is an OpenTelemetry collector that only writes down what comes,
// to the file VAR.
func collector(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Setenv(args[0], "http://localhost:"+port) // a name: looking it up is tried, too
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = os.WriteFile(ts.MkAbs(args[0]), fmt.Appendf(nil, "%s %s %s\n", r.Method, r.URL.Path, r.Header.Get("Content-Type")), 0o644)
		w.Header().Set("Content-Type", "application/x-protobuf")
	})}
	go func() { _ = server.Serve(l) }()
	ts.Defer(func() { _ = server.Close() })
}

// state FILE TEXT waits until a file has a text.
func state(ts *testscript.TestScript, _ bool, args []string) {
	eventually(ts, fmt.Sprintf("%q in %s", args[1], args[0]), func() bool {
		raw, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && bytes.Contains(raw, []byte(args[1]))
	})
}
