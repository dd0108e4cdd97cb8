package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/sluice-cd/sluice/bpf/probe"
)

// aborts has the service hang up instead of answering.
func (m *measured) aborts(ctx context.Context) error {
	const n = 10
	before, err := m.at(0)
	if err != nil {
		return err
	}
	c := client(false, false)
	for range n {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+m.service.socks[0].addr+"/?hangup=1", nil)
		if err != nil {
			return err
		}
		if answer, err := c.Do(r); err == nil {
			_ = answer.Body.Close()
			return fmt.Errorf("the service answered %s, expected it to hang up", answer.Status)
		}
	}
	return eventually(ctx, func() error {
		after, err := m.at(0)
		if err != nil {
			return err
		}
		if got := after.Aborted - before.Aborted; got != n || after.Requests != before.Requests {
			return fmt.Errorf("counted %d aborted and %d answered requests, expected %d and none", got, after.Requests-before.Requests, n)
		}
		return nil
	})
}

// unmeasured begins a TLS handshake, which the probe must not take for nothing.
func (m *measured) unmeasured(ctx context.Context) error {
	if !m.attached {
		return errNotAttached
	}
	before, err := m.probe.Snapshot()
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp", m.service.socks[0].addr)
	if err != nil {
		return err
	}
	defer c.Close()
	// The head of a ClientHello: handshake, TLS 1.0, 256 bytes.
	if _, err := c.Write([]byte{0x16, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3}); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		after, err := m.probe.Snapshot()
		if err != nil {
			return err
		}
		if n := after.Loss.Unmeasured - before.Loss.Unmeasured; n != 1 {
			return fmt.Errorf("%d unmeasured connections were counted, expected 1", n)
		}
		return nil
	})
}

// outgoing has the service open connections.
func (m *measured) outgoing(ctx context.Context) error {
	const n = 10
	if !m.attached {
		return errNotAttached
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	before, err := m.find(probe.Workload.Outgoing)
	if err != nil {
		return err
	}
	if _, err := (mix{{query: "?dial=" + l.Addr().String(), status: 200}}).send(ctx, m.service.socks[0].addr, 4*n); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		after, err := m.find(probe.Workload.Outgoing)
		if err != nil {
			return err
		}
		if got := after.Requests - before.Requests; got != 4*n {
			return fmt.Errorf("counted %d outgoing connections, expected %d", got, 4*n)
		}
		return nil
	})
}

// exemplars sends a failing request with a trace id and expects it back.
func (m *measured) exemplars(ctx context.Context) error {
	if !m.attached {
		return errNotAttached
	}
	trace := probe.TraceID{0: 0x4b, 7: 0xf9, 15: 0x36}
	if _, err := m.probe.Exemplars(); err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.service.socks[0].addr+"/?status=500", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Traceparent", "00-"+hex.EncodeToString(trace[:])+"-00f067aa0ba902b7-01")
	answer, err := client(false, false).Do(r)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	return eventually(ctx, func() error {
		list, err := m.probe.Exemplars()
		if err != nil {
			return err
		}
		for _, e := range list {
			if e.Status == http.StatusInternalServerError && e.Trace == trace {
				return nil
			}
		}
		return fmt.Errorf("%d exemplars, none is the request that failed", len(list))
	})
}
