package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluice-cd/sluice/bpf/bind"
)

func bindTrials() []trial {
	return []trial{
		{"bind: two services ask for the same IPv4 port", oldest, func(ctx context.Context) error { return shares(ctx, "127.0.0.1:8081") }},
		{"bind: two services ask for the same IPv6 port", oldest, func(ctx context.Context) error { return shares(ctx, "[::1]:8081") }},
	}
}

// shares starts two services with the same address, each in a group whose ports
// are moved.
func shares(ctx context.Context, addr string) (err error) {
	const wanted = 8081
	for i := range 2 {
		var mover *bind.Mover
		s, err := start(fmt.Sprintf("%sbind%d", groups, i), func(dir string) (err error) {
			mover, err = bind.Attach(dir)
			return err
		}, addr)
		if mover != nil {
			defer func() { err = errors.Join(err, mover.Close()) }()
		}
		if err != nil {
			return err
		}
		defer s.stop()
		if s.socks[0].addr == addr {
			return errors.New("the port was not moved")
		}
		if port, ok := mover.Requested(s.socks[0].cookie); !ok || port != wanted {
			return fmt.Errorf("the kernel remembers that port %d was asked for (%v), expected %d", port, ok, wanted)
		}
		if _, err := (mix{{status: 200}}).send(ctx, s.socks[0].addr, 4); err != nil {
			return err
		}
	}
	return nil
}
