package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/sluice-cd/sluice/bpf/split"
)

// pins is the folder of the splitter on the BPF file system.
const pins = "/sys/fs/bpf/front"

// frontPort is one that nobody listens on.
const frontPort = 8080

// splitTrials make a splitter each.
func splitTrials() []trial {
	var trials []trial
	for _, t := range []struct{ family, host string }{{"IPv4", "127.0.0.1"}, {"IPv6", "::1"}} {
		front := netip.AddrPortFrom(netip.MustParseAddr(t.host), frontPort)
		trials = append(trials, trial{"split: divides connections over " + t.family, oldest, func(ctx context.Context) error {
			return withPair(ctx, front, divides)
		}})
	}
	front := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), frontPort)
	return append(trials,
		trial{"split: a slot that dies is not missed", oldest, func(ctx context.Context) error { return withPair(ctx, front, survives) }},
		trial{"split: goes on from its pins", oldest, func(ctx context.Context) error { return withPair(ctx, front, goesOn) }},
	)
}

// pair is a splitter with a version in each slot.
type pair struct {
	*split.Splitter
	front    netip.AddrPort
	versions [2]*net.TCPListener
}

// withPair makes a pair for one trial.
func withPair(ctx context.Context, front netip.AddrPort, try func(context.Context, *pair) error) (err error) {
	p := &pair{front: front}
	if p.Splitter, err = split.Open(pins, front); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Remove(), p.Close()) }()
	for slot, name := range []string{"stable", "canary"} {
		if p.versions[slot], err = version(ctx, name, front.Addr().String()); err != nil {
			return err
		}
		defer p.versions[slot].Close()
		if err := p.set(split.Slot(slot), p.versions[slot]); err != nil {
			return err
		}
	}
	return try(ctx, p)
}

// version answers every connection with its name.
func version(ctx context.Context, name, host string) (*net.TCPListener, error) {
	config := net.ListenConfig{}
	config.SetMultipathTCP(false) // a sockmap takes plain TCP only
	l, err := config.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, name)
			_ = c.Close()
		}
	}()
	return l.(*net.TCPListener), nil
}

func (p *pair) set(slot split.Slot, l *net.TCPListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	return errors.Join(raw.Control(func(fd uintptr) { setErr = p.SetSocket(slot, int(fd)) }), setErr)
}

// ask makes connections to the front and counts who answered.
func (p *pair) ask(n int) (map[string]int, error) {
	got := map[string]int{}
	for range n {
		c, err := net.DialTimeout("tcp", p.front.String(), 3*time.Second)
		if err != nil {
			return got, err
		}
		name, err := io.ReadAll(c)
		_ = c.Close()
		if err != nil {
			return got, err
		}
		got[string(name)]++
	}
	return got, nil
}

// divides expects each version to get its share: exactly at the ends, and within
// five standard deviations of a fair draw (43 of 400) at a quarter.
func divides(_ context.Context, p *pair) error {
	for _, draw := range []struct {
		share        uint32
		n, want, off int
	}{{0, 50, 0, 0}, {split.Full / 4, 400, 100, 43}, {split.Full, 50, 50, 0}} {
		if err := p.SetWeight(draw.share); err != nil {
			return err
		}
		got, err := p.ask(draw.n)
		if err != nil {
			return err
		}
		if d := got["canary"] - draw.want; got["stable"]+got["canary"] != draw.n || max(d, -d) > draw.off {
			return fmt.Errorf("%d connections were divided as %v, expected %d for the canary, give or take %d", draw.n, got, draw.want, draw.off)
		}
	}
	return nil
}

// survives closes the socket in the slot that is always drawn.
func survives(_ context.Context, p *pair) error {
	const n = 50
	if err := errors.Join(p.SetWeight(split.Full), p.versions[1].Close()); err != nil {
		return err
	}
	got, err := p.ask(n)
	if err == nil && got["stable"] != n {
		err = fmt.Errorf("of %d connections %v were answered, expected all by the stable version", n, got)
	}
	return err
}

// goesOn lets go of the splitter and takes it over again.
func goesOn(_ context.Context, p *pair) error {
	const n = 50
	if err := errors.Join(p.SetWeight(split.Full), p.Close()); err != nil {
		return err
	}
	got, err := p.ask(n)
	again, openErr := split.Open(pins, p.front)
	if openErr != nil {
		return errors.Join(openErr, split.RemovePins(pins))
	}
	p.Splitter = again
	if err == nil && got["canary"] != n {
		err = fmt.Errorf("of %d connections %v were answered, expected all by the canary", n, got)
	}
	return errors.Join(err, p.Check())
}
