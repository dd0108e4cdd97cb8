package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/cgroup"
)

const (
	selfTestRequests = 3
	selfTestLimit    = 10 * time.Second
	selfTestEnv      = "SLUICE_PROBE_SELFTEST" // makes this program the one that is measured
	selfTestPrefix   = "sluice-probe-selftest-"

	// selfTestHost is an address of loopback that nobody else uses: by it the
	// requests of a self-test are known for what they are, even those that an
	// earlier daemon made and whose counters were taken over.
	selfTestHost = "127.83.108.99"
)

// SelfTestError means that the attached probe did not count requests that were
// made on purpose.
type SelfTestError struct {
	Sent, Counted uint64
	Err           error // why the second attempt was not possible; may be nil
}

func (e *SelfTestError) Error() string {
	text := fmt.Sprintf("self-test: %d requests were sent over loopback, the probe counted %d", e.Sent, e.Counted)
	if e.Err != nil {
		text += fmt.Sprintf("; in a control group of their own: %v", e.Err)
	}
	return text
}

func (e *SelfTestError) Unwrap() error { return e.Err }

// Hint says what to look at.
func (e *SelfTestError) Hint() string {
	return "is this process, or a control group that it may make, below the one that is measured (--cgroup)? In a container, mount the host's cgroup2 file system writable"
}

// ownTraffic is what self-tests made, which is not for anybody to see.
type ownTraffic struct{ group uint64 }

func (o ownTraffic) remove(s *probe.Snapshot) {
	host := netip.MustParseAddr(selfTestHost)
	for w := range s.Workloads {
		if w.Addr.Addr() == host || o.group != 0 && w.Cgroup == o.group {
			delete(s.Workloads, w)
		}
	}
}

// selfTest proves that what is attached counts. Requests of this process to
// itself will do if it is below the group that is measured; otherwise a child
// makes them in a group of its own.
func (a *Agent) selfTest() error {
	addr, err := askOneself(nil)
	if err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	counted, err := a.counted(func(w probe.Workload) bool { return w.Addr == addr })
	if err != nil || counted == selfTestRequests {
		return err
	}
	group, addr, err := selfTestChild(a.cfg.Cgroup)
	if err != nil {
		return &SelfTestError{Sent: selfTestRequests, Counted: counted, Err: err}
	}
	a.own.group = group
	counted, err = a.counted(func(w probe.Workload) bool { return w.Addr == addr && w.Cgroup == group })
	if err == nil && counted != selfTestRequests {
		err = &SelfTestError{Sent: selfTestRequests, Counted: counted}
	}
	return err
}

// counted reads how many requests a workload has answered. The last answer may
// be counted a moment after it has arrived.
func (a *Agent) counted(is func(probe.Workload) bool) (n uint64, err error) {
	for range 20 {
		snap, err := a.probe.Snapshot()
		if err != nil {
			return 0, fmt.Errorf("self-test: reading the probe: %w", err)
		}
		n = 0
		for w, c := range snap.Workloads {
			if is(w) {
				n += c.Requests
			}
		}
		if n >= selfTestRequests {
			return n, nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return n, nil
}

// askOneself makes requests to a server of this process and returns its address.
func askOneself(told io.Writer) (netip.AddrPort, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(selfTestHost, "0"))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("listening on loopback: %w", err)
	}
	server := http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: selfTestLimit}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	client := http.Client{Timeout: selfTestLimit, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range selfTestRequests {
		resp, err := client.Get("http://" + l.Addr().String())
		if err != nil {
			return netip.AddrPort{}, err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return netip.AddrPort{}, err
		}
		_ = resp.Body.Close()
	}
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	if told != nil {
		err = json.NewEncoder(told).Encode(addr)
	}
	return addr, err
}

// SelfTestChild makes requests to itself and returns true if that is what this
// process was started for: see selfTest. It has to be the first thing in main.
func SelfTestChild() bool {
	if os.Getenv(selfTestEnv) == "" {
		return false
	}
	if _, err := askOneself(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// selfTestChild runs this program again in a control group of its own below the
// one that is measured, and removes the group again.
func selfTestChild(parent string) (id uint64, addr netip.AddrPort, err error) {
	group, err := cgroup.Create(filepath.Join(parent, fmt.Sprint(selfTestPrefix, os.Getpid())))
	if err != nil {
		return 0, addr, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), selfTestLimit)
	defer cancel()
	defer func() { err = errors.Join(err, group.Remove(ctx)) }()
	if id, err = group.ID(); err != nil {
		return 0, addr, err
	}
	dir, err := os.Open(string(group))
	if err != nil {
		return 0, addr, err
	}
	defer dir.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = []string{selfTestEnv + "=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	var wrong bytes.Buffer
	cmd.Stderr = &wrong
	out, err := cmd.Output()
	if err != nil {
		return 0, addr, fmt.Errorf("%w: %s", err, bytes.TrimSpace(wrong.Bytes()))
	}
	return id, addr, json.Unmarshal(out, &addr)
}

// CleanSelfTests removes the control groups of self-tests that were killed.
func CleanSelfTests(parent string) error {
	left, err := filepath.Glob(filepath.Join(parent, selfTestPrefix+"*"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), selfTestLimit)
	defer cancel()
	for _, dir := range left {
		if err := cgroup.Group(dir).Remove(ctx); err != nil {
			return err
		}
	}
	return nil
}
