package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// openOne opens a listener and serves nothing on it.
func openOne(t *testing.T, address string) (*listener, error) {
	t.Helper()
	list, err := openListeners(Config{Listen: []string{address}, SocketGroup: os.Getgid()})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { closeAll(list) })
	return list[0], nil
}

func TestASocketIsTakenOverOnlyFromTheDead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "probe.sock")
	first, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	first.SetUnlinkOnClose(false) // as kill -9 does
	if _, err := openOne(t, "unix:"+path); !errors.Is(err, errServed) {
		t.Errorf("a socket on which somebody listens: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := openOne(t, "unix:"+path); err != nil {
		t.Errorf("a socket that was left: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket is %v: %v, want mode 0660", info, err)
	}
}

func TestAddressesThatCannotBeServed(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	datagrams := filepath.Join(dir, "datagrams.sock")
	unconnected, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: datagrams, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer unconnected.Close()
	for name, tt := range map[string]struct {
		address string
		says    string
		is      error
		hint    bool
	}{
		"a file":              {"unix:" + file, "is there already and is no socket", nil, false},
		"a file as a folder":  {"unix:" + file + "/probe.sock", "not a directory", syscall.ENOTDIR, false},
		"another socket":      {"unix:" + datagrams, "protocol wrong type", syscall.EPROTOTYPE, false},
		"no folder":           {"unix:" + dir + "/no/probe.sock", "no such file", os.ErrNotExist, true},
		"a port in use":       {"tcp:" + taken.Addr().String(), "address already in use", syscall.EADDRINUSE, true},
		"not our address":     {"tcp:192.0.2.1:9465", "cannot assign", syscall.EADDRNOTAVAIL, true},
		"no kind":             {"127.0.0.1:9465", "want unix:PATH or tcp:HOST:PORT", nil, false},
		"no port":             {"tcp:127.0.0.1", "missing port", nil, false},
		"nothing":             {"unix:", "want unix:PATH", nil, false},
		"another way of HTTP": {"https://127.0.0.1:9465", "want unix:PATH", nil, false},
	} {
		_, err := openOne(t, tt.address)
		var failed *ListenError
		if !errors.As(err, &failed) || !strings.Contains(err.Error(), tt.says) || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
			continue
		}
		if (failed.Hint() != "") != tt.hint {
			t.Errorf("%s: hint %q", name, failed.Hint())
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file holds %q: %v", text, err)
	}
}

func TestASocketIsForRootAndAGroup(t *testing.T) {
	testenv.NeedRoot(t)
	for name, group := range map[string]int{"nobody else": 0, "a group": 4242} {
		path := filepath.Join(t.TempDir(), "probe.sock")
		list, err := openListeners(Config{Listen: []string{"unix:" + path}, SocketGroup: group})
		if err != nil {
			t.Fatal(err)
		}
		defer closeAll(list)
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if st.Mode&0o777 != 0o660 || st.Uid != 0 || int(st.Gid) != group {
			t.Errorf("%s: mode %o, user %d, group %d", name, st.Mode&0o777, st.Uid, st.Gid)
		}
	}
}

// Of the addresses of a daemon all are served or none.
func TestOneAddressThatCannotBeServedLeavesNoneOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "probe.sock")
	_, err := openListeners(Config{
		Listen: []string{"unix:" + path, "tcp:127.0.0.1:0"},
		TLS:    TLS{Cert: "missing.crt", Key: "missing.key"},
	})
	var failed *ListenError
	if !errors.As(err, &failed) || failed.Address != "tcp:127.0.0.1:0" || !strings.Contains(err.Error(), "reading the certificate missing.crt with the key missing.key") {
		t.Errorf("it says %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// A request that does not end holds the end of the daemon up for a moment only.
func TestARequestThatDoesNotEndIsCutOff(t *testing.T) {
	l, err := openOne(t, "tcp:127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	began, cut := make(chan struct{}), make(chan struct{})
	server := newServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(cut)
	}), nil)
	go func() { _ = server.Serve(l) }()
	answered := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://" + l.Addr().String())
		if err == nil {
			_ = resp.Body.Close()
		}
		answered <- err
	}()
	<-began
	stop(server)
	select {
	case <-cut:
	case <-time.After(patience):
		t.Fatal("the request goes on")
	}
	if err := <-answered; err == nil {
		t.Error("the client got an answer")
	}
}

// TestGreedyClients fills a listener with connections that send nothing, or
// bytes one by one: others wait until those are cut off, and no longer.
func TestGreedyClients(t *testing.T) {
	l, err := openOne(t, "tcp:127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "served") }), nil)
	server.ReadHeaderTimeout = 300 * time.Millisecond
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 2 * maxConnections {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() {
			for ctx.Err() == nil {
				if _, err := c.Write([]byte("G")); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		}()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("an honest client: %v", err)
	}
	_ = resp.Body.Close()
}

func TestHeadersAreBounded(t *testing.T) {
	l, err := openOne(t, "tcp:127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(http.NotFoundHandler(), nil)
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 1<<20)) }()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a megabyte of headers: %v, %v", resp, err)
	}
}
