package load

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// lingerTime is how long a connection that is done with waits for the server to close it.
const lingerTime = 500 * time.Millisecond

var errTimeout = errors.New("no complete answer in time")

// transport makes the requests: without proxies, without redirects, with a deadline for each.
type transport struct {
	http.Transport
	ctx     context.Context // everything ends with it
	timeout time.Duration
	tally   *tally
	open    atomic.Int64 // connections that are not closed yet
}

func newTransport(ctx context.Context, o Options, t *tally) *transport {
	tr := &transport{ctx: ctx, timeout: o.Timeout, tally: t}
	dialer := &net.Dialer{KeepAlive: -1}
	tr.Transport = http.Transport{
		DisableKeepAlives:   !o.KeepAlive, // sends "Connection: close"
		DisableCompression:  true,
		MaxIdleConnsPerHost: o.Connections,
		IdleConnTimeout:     90 * time.Second,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil || o.KeepAlive {
				return conn, err
			}
			tr.open.Add(1)
			return &lingering{Conn: conn, ctx: tr.ctx, open: &tr.open}, nil
		},
	}
	return tr
}

// RoundTrip sends one request. It removes the sequence number that vegeta adds, so that services get what was asked for.
func (tr *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeoutCause(tr.ctx, tr.timeout, errTimeout)
	connections := 0
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		if connections++; connections > 1 { // net/http repeats a request when a kept connection turns out to be closed
			tr.tally.retried()
		}
	}})
	tr.tally.sent()
	req = req.WithContext(ctx)
	req.Header.Del("X-Vegeta-Seq")
	resp, err := tr.Transport.RoundTrip(req)
	if err != nil {
		err = timedOut(ctx, err)
		cancel()
		return nil, err
	}
	resp.Body = &body{ReadCloser: resp.Body, ctx: ctx, cancel: cancel}
	return resp, nil
}

// close waits until the connections are closed, each by itself, for little longer than one may linger.
func (tr *transport) close() {
	tr.CloseIdleConnections()
	for end := time.Now().Add(lingerTime + 100*time.Millisecond); tr.open.Load() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// body keeps the deadline of its request alive until it is closed.
type body struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelFunc
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = timedOut(b.ctx, err)
	}
	return n, err
}

func (b *body) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// timedOut returns errTimeout in place of whatever error the end of time caused.
func timedOut(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errTimeout) {
		return errTimeout
	}
	return err
}

// lingering is a connection that lets the server close first. The side that closes first keeps the pair of ports for
// a minute (TIME_WAIT); on the client's side that would use up the ephemeral ports at some 470 connections a second.
// An RST instead of a FIN would free them too, but may destroy data on its way.
type lingering struct {
	net.Conn
	ctx  context.Context
	open *atomic.Int64
	once sync.Once
}

// Close returns at once and closes when the server has, or after lingerTime.
func (c *lingering) Close() error {
	c.once.Do(func() { go c.linger() })
	return nil
}

func (c *lingering) linger() {
	defer c.open.Add(-1)
	defer c.Conn.Close()
	if c.ctx.Err() != nil || c.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	var rest [512]byte
	for {
		if _, err := c.Read(rest[:]); err != nil {
			return
		}
	}
}
