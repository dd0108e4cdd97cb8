package sandbox

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

const (
	askTimeout = 5 * time.Second
	maxBody    = 64 << 10
)

// ask sends one health request, or only connects when health is empty.
//
// It must run on the thread that is in the service's namespace, and therefore
// dials an address that needs no resolver, by itself: an http.Transport would
// dial from another goroutine, and so from another namespace.
func ask(ctx context.Context, addr netip.AddrPort, health string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	if health == "" {
		return 0, nil, nil
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+health, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("health path %q: %w", health, err)
	}
	req.Host = fmt.Sprintf("localhost:%d", addr.Port())
	req.Close = true
	if err := req.Write(conn); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return 0, nil, fmt.Errorf("reading the answer: %w", err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return 0, nil, fmt.Errorf("reading the answer: %w", err)
	}
	return resp.StatusCode, body, nil
}

// good tells whether the status of a health request means healthy.
func good(status int) bool { return status >= 200 && status < 400 }
