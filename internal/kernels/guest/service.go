package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/internal/cgroup"
)

// lateMark before an address has the kernel accept connections only with their
// first data, which so comes with the last packet of the handshake.
const lateMark = "late:"

// serve answers HTTP/1.1, h2c and gRPC at each address and tells, a line each,
// the address it got and the socket's cookie. It returns only with an error.
func serve(addrs []string) error {
	server := http.Server{Handler: http.HandlerFunc(answer), Protocols: protocols(), ReadHeaderTimeout: time.Minute}
	done := make(chan error)
	for _, addr := range addrs {
		var cookie uint64
		addr, late := strings.CutPrefix(addr, lateMark)
		config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
			return errors.Join(c.Control(func(fd uintptr) {
				cookie, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE)
				if late {
					err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 5))
				}
			}), err)
		}}
		config.SetMultipathTCP(!late) // of which the option is refused
		l, err := config.Listen(context.Background(), "tcp", addr)
		if err != nil {
			return err
		}
		fmt.Println(l.Addr(), cookie)
		go func() { done <- server.Serve(l) }()
	}
	return <-done
}

func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// answer does what the query says: status=N, grpc=N (the status of a gRPC call,
// in the trailers), hangup=1 (no answer at all), dial=ADDR.
func answer(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	_, _ = io.Copy(io.Discard, r.Body)
	if q.Has("hangup") {
		panic(http.ErrAbortHandler)
	}
	if addr := q.Get("dial"); addr != "" {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
		}
	}
	if q.Has("grpc") {
		w.Header().Set("Content-Type", "application/grpc")
		_, _ = w.Write([]byte{0, 0, 0, 0, 0}) // an empty message
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", q.Get("grpc"))
		return
	}
	status, _ := strconv.Atoi(q.Get("status"))
	w.WriteHeader(max(status, http.StatusOK))
	_, _ = io.WriteString(w, "ok\n")
}

// service is a process that serves, in a control group of its own.
type service struct {
	group cgroup.Group
	socks []sock
	cmd   *exec.Cmd
}

// sock is one listening socket of a service.
type sock struct {
	addr   string
	cookie uint64
}

// start starts a service in a new group. prepare, which may be nil, sees the group before there is a process in it.
func start(dir string, prepare func(dir string) error, addrs ...string) (_ *service, err error) {
	s := &service{}
	if s.group, err = cgroup.Create(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if prepare != nil {
		if err := prepare(dir); err != nil {
			return nil, err
		}
	}
	handle, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	s.cmd = exec.Command("/proc/self/exe", append([]string{serveVerb}, addrs...)...)
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(handle.Fd())}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the service: %w", err)
	}
	lines := bufio.NewScanner(out)
	for range addrs {
		var at sock
		lines.Scan()
		if _, err := fmt.Sscan(lines.Text(), &at.addr, &at.cookie); err != nil {
			return nil, fmt.Errorf("the service did not start; it said %q", strings.TrimSpace(lines.Text()))
		}
		s.socks = append(s.socks, at)
	}
	return s, nil
}

// stop ends the process and removes the group.
func (s *service) stop() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
	_ = s.group.Remove(context.Background())
}
