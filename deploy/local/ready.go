package local

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/bpf/bind"
)

// settle is how long a service that did not name its port may take from its
// first listening socket to its last.
const settle = 250 * time.Millisecond

// ready waits until the version listens and answers, and returns its listening
// socket. The caller closes it.
func (a *Arm) ready(ctx context.Context, mover *bind.Mover) (socket, error) {
	ctx, cancel := context.WithTimeout(ctx, a.Start)
	defer cancel()
	why := "it does not listen on a TCP port"
	var first time.Time
	for {
		found, err := a.listeners(mover)
		if err != nil {
			return socket{}, err
		}
		if len(found) > 0 && first.IsZero() {
			first = time.Now()
		}
		if len(found) > 0 && (a.Port != 0 || time.Since(first) >= settle) {
			var s socket
			var ok bool
			var said string
			if s, said, ok = a.choose(ctx, found, mover); ok {
				return s, nil
			}
			if ctx.Err() == nil {
				why = said // what the deadline cut short says nothing
			}
		} else {
			closeAll(found)
		}
		select {
		case <-a.gone:
			return socket{}, &StartError{Version: a.Version, Reason: "its process ended", Log: tail(a.Log, a.quote)}
		case <-ctx.Done():
			reason := fmt.Sprintf("not ready after %v: %s", a.Start, why)
			return socket{}, &StartError{Version: a.Version, Reason: reason, Log: tail(a.Log, a.quote), Err: context.Cause(ctx)}
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// listeners borrows the listening sockets of the version; with a configured
// port only those that it asked for under that number.
func (a *Arm) listeners(mover *bind.Mover) ([]socket, error) {
	all, err := sockets(a.Cgroup)
	if err != nil {
		return nil, err
	}
	var found []socket
	for _, s := range all {
		if s.listening && (a.Port == 0 || asked(s, mover) == a.Port) {
			found = append(found, s)
		} else {
			s.close()
		}
	}
	return found, nil
}

// asked is the port that the service had asked for.
func asked(s socket, mover *bind.Mover) int {
	if port, ok := mover.Requested(s.cookie); ok {
		return int(port)
	}
	return int(s.local.Port())
}

// choose returns the one listening socket that is ready, closing the others.
// Of several that are ready the port has to be named, unless they share it.
func (a *Arm) choose(ctx context.Context, found []socket, mover *bind.Mover) (_ socket, why string, ok bool) {
	var fit []socket
	for _, s := range found {
		if err := a.healthy(ctx, s.local); err != nil {
			why = err.Error()
			s.close()
			continue
		}
		fit = append(fit, s)
	}
	if ctx.Err() != nil { // who was not asked any more may be fit as well
		closeAll(fit)
		return socket{}, why, false
	}
	if len(fit) == 0 {
		return socket{}, why, false
	}
	ports := map[uint16]bool{}
	var names []string
	for _, s := range fit {
		ports[s.local.Port()] = true
		names = append(names, fmt.Sprint(asked(s, mover)))
	}
	if len(ports) > 1 {
		closeAll(fit)
		return socket{}, fmt.Sprintf("it listens on ports %s; name one as service.port", strings.Join(names, ", ")), false
	}
	closeAll(fit[1:])
	return fit[0], "", true
}

// healthy asks the health path once, or connects where there is none.
func (a *Arm) healthy(ctx context.Context, addr netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var first error
	for _, target := range reachable(addr) {
		err := a.askHealth(ctx, target)
		if err == nil {
			return nil
		}
		first = cmp.Or(first, err) // an answer says more than an address without one
	}
	return first
}

func (a *Arm) askHealth(ctx context.Context, addr netip.AddrPort) error {
	if a.Health == "" {
		return connect(ctx, addr)
	}
	status, err := get(ctx, addr, a.Health)
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("GET %s answers %d", a.Health, status)
	}
	return err
}

// reachable lists the addresses at which a listener can be reached from here.
func reachable(addr netip.AddrPort) []netip.AddrPort {
	if !addr.Addr().IsUnspecified() {
		return []netip.AddrPort{addr}
	}
	list := []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), addr.Port())}
	if addr.Addr().Is6() {
		list = append(list, netip.AddrPortFrom(netip.IPv6Loopback(), addr.Port()))
	}
	return list
}

func connect(ctx context.Context, addr netip.AddrPort) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// get makes one request on a connection of its own and returns the status. A
// service that does not answer HTTP/1.1 may answer HTTP/2 in the clear: gRPC.
func get(ctx context.Context, addr netip.AddrPort, path string) (status int, err error) {
	var http1, http2 http.Protocols
	http1.SetHTTP1(true)
	http2.SetUnencryptedHTTP2(true)
	if status, err = ask(ctx, addr, path, &http1); err == nil || ctx.Err() != nil {
		return status, err
	}
	if status, retry := ask(ctx, addr, path, &http2); retry == nil {
		return status, nil
	}
	return 0, err
}

func ask(ctx context.Context, addr netip.AddrPort, path string, protocols *http.Protocols) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String()+path, nil)
	if err != nil {
		return 0, err
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, Protocols: protocols},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, nil
}
