package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
)

// check puts another program in front of the probe's.
func (m *measured) check(context.Context) error {
	const deep = 60 // one check in so many reads the instructions again
	if !m.attached {
		return errNotAttached
	}
	for range deep {
		if err := m.probe.Check(); err != nil {
			return fmt.Errorf("before anything was touched: %w", err)
		}
	}
	prog, err := passAll(ebpf.AttachCGroupInetIngress)
	if err != nil {
		return err
	}
	defer prog.Close()
	l, err := link.AttachCgroup(link.CgroupOptions{Path: string(m.service.group), Attach: ebpf.AttachCGroupInetIngress, Program: prog})
	if err != nil {
		return err
	}
	if found := m.probe.Check(); !errors.As(found, new(*bpf.MismatchError)) {
		return errors.Join(fmt.Errorf("another program was attached and a check said: %v", found), l.Close())
	}
	if err := l.Close(); err != nil {
		return err
	}
	if err := m.probe.Check(); err != nil {
		return fmt.Errorf("after the other program was detached: %w", err)
	}
	return nil
}

// swap replaces the programs while requests are sent.
func (m *measured) swap(ctx context.Context) error {
	const swaps = 3
	before, err := m.at(0)
	if err != nil {
		return err
	}
	var total sent
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			got, err := mix{{query: "", status: 200}}.send(ctx, m.service.socks[0].addr, 20)
			total.requests += got.requests
			total.classes[2] += got.requests
			select {
			case <-stop:
				stopped <- err
				return
			default:
			}
			if err != nil {
				stopped <- err
				return
			}
		}
	}()
	for range swaps {
		if err = m.probe.Swap(probe.Object(), bpf.DigestOf(probe.Object())); err != nil {
			break
		}
		time.Sleep(50 * time.Millisecond) // some requests by each program
	}
	close(stop)
	if err := errors.Join(err, <-stopped); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		after, err := m.at(0)
		if err != nil {
			return err
		}
		return total.compare(before, after)
	})
}

// passAll is a program that lets every packet pass, unseen.
func passAll(attach ebpf.AttachType) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSKB, AttachType: attach, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
}

// goesOn lets go of the probe, as a process that ends does, and takes it over.
func (m *measured) goesOn(ctx context.Context) error {
	before, err := m.at(0)
	if err != nil {
		return err
	}
	m.attached = false
	if err := m.probe.Release(); err != nil {
		return fmt.Errorf("letting go of the probe: %w", err)
	}
	m.probe = nil
	total, err := mix{{status: 200}}.send(ctx, m.service.socks[0].addr, 40)
	if err != nil {
		return err
	}
	if err := m.load(ctx); err != nil {
		return fmt.Errorf("taking over the probe: %w", err)
	}
	if err := m.probe.Attach(string(m.service.group)); err != nil {
		return fmt.Errorf("taking over the probe: %w", err)
	}
	m.attached = true
	if inherited, why := m.probe.Inherited(); !inherited {
		return fmt.Errorf("the pinned probe was not taken over: %w", why)
	}
	return eventually(ctx, func() error {
		after, err := m.at(0)
		if err != nil {
			return err
		}
		return total.compare(before, after)
	})
}
