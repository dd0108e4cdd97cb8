package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
)

// dialer connects to an address in the cluster's network.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// forward gives an address of the cluster's network another one on loopback of
// this machine, until ctx ends: programs that know nothing of the cluster reach
// it there.
func forward(ctx context.Context, dial dialer, to string) (address string, err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("forwarding to %s: %w", to, err)
	}
	context.AfterFunc(ctx, func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go carry(ctx, conn, dial, to)
		}
	}()
	return l.Addr().String(), nil
}

// carry copies both ways until both have ended.
func carry(ctx context.Context, near net.Conn, dial dialer, to string) {
	defer near.Close()
	far, err := dial(ctx, "tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	stop := context.AfterFunc(ctx, func() {
		_ = near.Close()
		_ = far.Close()
	})
	defer stop()
	var group sync.WaitGroup
	group.Go(func() { pipe(far, near) })
	group.Go(func() { pipe(near, far) })
	group.Wait()
}

// pipe copies and then tells the other side that nothing more comes.
func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
