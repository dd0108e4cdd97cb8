package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/internal/cgroup"
)

// replaceProgram waits until a canary gets traffic and then, as root could from
// anywhere on the machine, swaps the probe's ingress program for one that sees
// nothing.
func replaceProgram(ctx context.Context, service string) (string, error) {
	root, err := cgroup.Root()
	if err != nil {
		return "", err
	}
	group := filepath.Join(root, "sluice", service)
	if err := twoVersions(ctx, group); err != nil {
		return "", err
	}
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(4 * time.Second):
	}
	id, err := cgroup.Group(group).ID()
	if err != nil {
		return "", err
	}
	blind, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetIngress, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		return "", fmt.Errorf("loading a program that sees nothing: %w", err)
	}
	defer blind.Close()
	return swapIn(id, blind)
}

// swapIn replaces the ingress program attached to a control group.
func swapIn(group uint64, prog *ebpf.Program) (string, error) {
	links := new(link.Iterator)
	defer links.Close()
	for links.Next() {
		info, err := links.Link.Info()
		if err != nil {
			continue
		}
		cg := info.Cgroup()
		if cg == nil || cg.CgroupId != group || ebpf.AttachType(cg.AttachType) != ebpf.AttachCGroupInetIngress {
			continue
		}
		if err := links.Link.Update(prog); err != nil {
			return "", fmt.Errorf("replacing the program of link %d: %w", info.ID, err)
		}
		return fmt.Sprintf("program %d of link %d replaced by one that sees nothing", info.Program, info.ID), nil
	}
	return "", errors.Join(errors.New("found no probe to attack"), links.Err())
}

// twoVersions waits until two versions run below the group.
func twoVersions(ctx context.Context, group string) error {
	for {
		entries, _ := os.ReadDir(group)
		n := 0
		for _, e := range entries {
			if e.IsDir() && strings.Contains(e.Name(), ".") {
				n++
			}
		}
		if n >= 2 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
