package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// isSelfTest reports whether a workload is what self-tests made, which is not for
// anybody to see.
func isSelfTest(w probe.Workload) bool {
	return w.Addr.Addr() == netip.MustParseAddr(selfTestHost)
}

// selfTest proves that what is attached counts. A server of this process will do
// if it is below the group that is measured; otherwise a child serves in a group
// of its own.
func (a *Agent) selfTest() error {
	addr, end, err := serveOneself()
	if err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	counted, err := a.countRequests(addr)
	end()
	if err != nil || counted == selfTestRequests {
		return err
	}
	addr, endChild, err := selfTestChild(a.cfg.Cgroup)
	if err != nil {
		return &SelfTestError{Sent: selfTestRequests, Counted: counted, Err: err}
	}
	counted, err = a.countRequests(addr)
	if err := errors.Join(err, endChild()); err != nil {
		return err
	}
	if counted != selfTestRequests {
		return &SelfTestError{Sent: selfTestRequests, Counted: counted}
	}
	return nil
}

// countRequests sends requests and reads how many the probe has counted. The
// last answer may be counted a moment after it has arrived.
func (a *Agent) countRequests(addr netip.AddrPort) (n uint64, err error) {
	if err := request(addr); err != nil {
		return 0, fmt.Errorf("self-test: %w", err)
	}
	for range 20 {
		snap, err := a.probe.Snapshot()
		if err != nil {
			return 0, fmt.Errorf("self-test: reading the probe: %w", err)
		}
		n = 0
		for w, c := range snap.Workloads {
			if w.Addr == addr {
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

// serveOneself answers requests until end is called.
func serveOneself() (addr netip.AddrPort, end func(), err error) {
	l, err := net.Listen("tcp", net.JoinHostPort(selfTestHost, "0"))
	if err != nil {
		return addr, nil, fmt.Errorf("listening on loopback: %w", err)
	}
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: selfTestLimit}
	go func() { _ = server.Serve(l) }()
	return l.Addr().(*net.TCPAddr).AddrPort(), func() { _ = server.Close() }, nil
}

func request(addr netip.AddrPort) error {
	client := http.Client{Timeout: selfTestLimit, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range selfTestRequests {
		resp, err := client.Get("http://" + addr.String())
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
	}
	return nil
}

// SelfTestChild serves, and returns true at the end, if that is what this
// process was started for: see selfTest. It has to be the first thing in main.
func SelfTestChild() bool {
	if os.Getenv(selfTestEnv) == "" {
		return false
	}
	addr, end, err := serveOneself()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(addr)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent has enough, or is gone
	end()
	return true
}

// selfTestChild runs this program again as a server in a control group of its
// own, below the one that is measured, until end is called.
func selfTestChild(parent string) (addr netip.AddrPort, end func() error, err error) {
	group, err := cgroup.Create(filepath.Join(parent, fmt.Sprint(selfTestPrefix, os.Getpid())))
	if err != nil {
		return addr, nil, err
	}
	end = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), selfTestLimit)
		defer cancel()
		return group.Remove(ctx) // ends what is in it
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, end())
		}
	}()
	dir, err := os.Open(string(group))
	if err != nil {
		return addr, nil, err
	}
	defer dir.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{selfTestEnv + "=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	in, err := cmd.StdinPipe() // open for as long as this process lives
	if err != nil {
		return addr, nil, err
	}
	var wrong bytes.Buffer
	cmd.Stderr = &wrong
	out, err := cmd.StdoutPipe()
	if err != nil {
		return addr, nil, err
	}
	if err := cmd.Start(); err != nil {
		return addr, nil, err
	}
	var line string
	if _, err := fmt.Fscanln(out, &line); err != nil {
		_ = in.Close()
		_ = cmd.Wait()
		return addr, nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(wrong.Bytes()))
	}
	stop := end
	end = func() error {
		_ = in.Close()
		_ = cmd.Wait() // it may have been ended by its group
		return stop()
	}
	addr, err = netip.ParseAddrPort(line)
	return addr, end, err
}

// CleanSelfTests removes the control groups of self-tests that were killed, with
// what is left in them.
func CleanSelfTests(parent string) error {
	ctx, cancel := context.WithTimeout(context.Background(), selfTestLimit)
	defer cancel()
	for _, group := range selfTestGroups(parent) {
		if err := group.Remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

// sweepSelfTests removes those of them in which nothing runs any more: a server
// ends with the daemon that it was for, and another daemon may just be testing
// itself.
func sweepSelfTests(parent string) {
	for _, group := range selfTestGroups(parent) {
		_ = os.Remove(string(group))
	}
}

func selfTestGroups(parent string) []cgroup.Group {
	var list []cgroup.Group
	entries, _ := os.ReadDir(parent) // what cannot be read was not made by us
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), selfTestPrefix) {
			list = append(list, cgroup.Group(filepath.Join(parent, e.Name())))
		}
	}
	return list
}
