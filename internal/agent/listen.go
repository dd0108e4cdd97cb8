package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ListenError says why an address cannot be served.
type ListenError struct {
	Address string
	Err     error
	Advice  string
}

func (e *ListenError) Error() string { return fmt.Sprintf("listening on %s: %v", e.Address, e.Err) }

func (e *ListenError) Unwrap() error { return e.Err }

// Hint says what would help.
func (e *ListenError) Hint() string { return e.Advice }

// maxConnections bounds each listener, so that a client of one that keeps
// connections open does not shut out those of another.
const maxConnections = 128

// Limits of a request. Headers have to come soon (slowloris), an object of 16
// MiB may take its time, and so may a CPU profile of half a minute.
const (
	headerLimit  = 5 * time.Second
	requestLimit = time.Minute
	idleLimit    = 2 * time.Minute
	maxHeader    = 16 << 10
	stopLimit    = 3 * time.Second
)

// listener serves one address.
type listener struct {
	net.Listener
	name   string
	secure *tls.Config // nil: not encrypted
	slots  chan struct{}
}

// where is the address with the port that the kernel chose, if it was asked to.
func (l *listener) where() string {
	kind, _, _ := strings.Cut(l.name, ":")
	return kind + ":" + l.Addr().String()
}

// openListeners opens all addresses or none.
func openListeners(cfg Config) (list []*listener, err error) {
	defer func() {
		if err != nil {
			closeAll(list)
			list = nil
		}
	}()
	for _, address := range cfg.Listen {
		l := &listener{name: address, slots: make(chan struct{}, maxConnections)}
		kind, rest, _ := strings.Cut(address, ":")
		switch {
		case kind == "unix" && rest != "":
			l.Listener, err = listenUnix(rest, cfg.SocketGroup)
		case kind == "tcp" && rest != "":
			if l.secure, err = cfg.TLS.server(); err == nil {
				l.Listener, err = net.Listen("tcp", rest)
			}
		default:
			err = errors.New("want unix:PATH or tcp:HOST:PORT")
		}
		if err != nil {
			return list, listenError(address, err)
		}
		list = append(list, l)
	}
	return list, nil
}

func listenError(address string, err error) error {
	e := &ListenError{Address: address, Err: err}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		e.Advice = "another program has that port (ss -ltnp shows which); choose another one with --listen"
	case errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(address, "unix:"):
		e.Advice = "make the folder first, or choose another path with --listen"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		e.Advice = "no interface of this machine has that address; tcp::9465 listens on all"
	}
	return e
}

func closeAll(list []*listener) {
	for _, l := range list {
		_ = l.Close()
	}
}

// errServed means that somebody answers on a socket.
var errServed = errors.New("another sluice-probe serves there")

// listenUnix takes over the socket of a daemon that was killed, and refuses one
// on which somebody answers. Root and the group may connect.
func listenUnix(path string, group int) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeSocket == 0:
		return nil, fmt.Errorf("%s is there already and is no socket", path)
	default:
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			_ = c.Close()
			return nil, errServed
		} else if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("removing the socket of a daemon that was killed: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if group != 0 {
		err = os.Chown(path, -1, group)
	}
	if err := errors.Join(err, os.Chmod(path, 0o660)); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// Accept waits until there is room for a connection.
func (l *listener) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	peer := &conn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}
	peer.uid, peer.local = uidOf(c)
	if l.secure != nil {
		return tls.Server(peer, l.secure), nil
	}
	return peer, nil
}

// conn knows who is at the other end of a Unix socket.
type conn struct {
	net.Conn
	uid     uint32
	local   bool // uid is known
	release func()
}

func (c *conn) Close() error {
	c.release()
	return c.Conn.Close()
}

// uidOf asks the kernel who has opened a Unix socket's other end.
func uidOf(c net.Conn) (uid uint32, known bool) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, false
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid, known = cred.Uid, true
		}
	})
	return uid, known
}

// peerKey is under what a request's context has its *conn.
type peerKey struct{}

// newServer makes a server that bears with slow and greedy clients. What they do
// wrong goes to the log.
func newServer(h http.Handler, log *log.Logger) *http.Server {
	var plain http.Protocols
	plain.SetHTTP1(true) // HTTP/2 would be more code in a privileged process, for one request a second
	return &http.Server{
		Handler: h, Protocols: &plain,
		ReadHeaderTimeout: headerLimit, ReadTimeout: requestLimit, WriteTimeout: requestLimit, IdleTimeout: idleLimit,
		MaxHeaderBytes: maxHeader, ErrorLog: log,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if t, ok := c.(*tls.Conn); ok {
				c = t.NetConn()
			}
			return context.WithValue(ctx, peerKey{}, c)
		},
	}
}

// stop lets requests end that have begun.
func stop(s *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		_ = s.Close()
	}
}
