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
	for name, tt := range map[string]struct {
		address string
		says    string
		is      error
		hint    bool
	}{
		"a file":              {"unix:" + file, "is there already and is no socket", nil, false},
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
