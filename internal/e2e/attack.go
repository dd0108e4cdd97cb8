package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/cgroup"
)

// replacement is a program of the probe that was replaced.
type replacement struct {
	link link.ID
	by   ebpf.ProgramID
	text string
}

// undone reports whether the kernel runs another program again.
func (r *replacement) undone() (bool, error) {
	now, err := link.NewFromID(r.link)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking at link %d: %w", r.link, err)
	}
	defer now.Close()
	info, err := now.Info()
	if err != nil {
		return false, fmt.Errorf("looking at link %d: %w", r.link, err)
	}
	return info.Program != r.by, nil
}

// blind replaces, as root of a node could from anywhere, the program by which
// the daemon sees requests come in by one that sees nothing.
func (l *lab) blind() (*replacement, error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetIngress, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		return nil, fmt.Errorf("loading a program that sees nothing: %w", err)
	}
	defer prog.Close()
	nothing, err := prog.Info()
	if err != nil {
		return nil, fmt.Errorf("looking at the program that sees nothing: %w", err)
	}
	id, _ := nothing.ID()
	groups, err := l.groupIDs()
	if err != nil {
		return nil, err
	}
	links := new(link.Iterator)
	defer links.Close()
	for links.Next() {
		info, err := links.Link.Info()
		if err != nil {
			continue
		}
		cg := info.Cgroup()
		if cg == nil || !groups[cg.CgroupId] || ebpf.AttachType(cg.AttachType) != ebpf.AttachCGroupInetIngress {
			continue
		}
		if err := links.Link.Update(prog); err != nil {
			return nil, fmt.Errorf("replacing the program of link %d: %w", info.ID, err)
		}
		text := fmt.Sprintf("program %d of link %d replaced by one that sees nothing", info.Program, info.ID)
		return &replacement{link: info.ID, by: id, text: text}, nil
	}
	return nil, errors.Join(errors.New("found no probe to attack"), links.Err())
}

// groupIDs are the control groups of this cluster that a daemon may be attached
// to: those of other clusters and programs are left alone.
func (l *lab) groupIDs() (map[uint64]bool, error) {
	root, err := cgroup.Root()
	if err != nil {
		return nil, err
	}
	ids := map[uint64]bool{}
	names := []string{"sluice-cluster-" + l.name}
	for _, node := range l.info.Nodes {
		names = append(names, names[0]+"/"+node.Name)
	}
	for _, name := range names {
		id, err := cgroup.Group(root + "/" + name).ID()
		if err != nil {
			return nil, err
		}
		ids[id] = true
	}
	return ids, nil
}

// tampered is the object of the probe with a byte more: another digest, and the
// kernel still takes it.
func tampered() []byte { return append([]byte(strings.Clone(string(probe.Object()))), 0) }

// swapObject makes the DaemonSet load another object, which whoever may edit the
// DaemonSet can also vouch for.
func (l *lab) swapObject(ctx context.Context, object []byte, digest string) (restore func(context.Context) error, err error) {
	d, err := l.kube.need(ctx, kindDaemonSet, probeNamespace, "sluice-probe")
	if err != nil {
		return nil, err
	}
	containers := slice(d, "spec", "template", "spec", "containers")
	volumes := slice(d, "spec", "template", "spec", "volumes")
	if len(containers) != 1 {
		return nil, fmt.Errorf("the DaemonSet has %d containers", len(containers))
	}
	set := func(ctx context.Context, args, mounts, volumes []any) error {
		containers[0]["args"], containers[0]["volumeMounts"] = args, mounts
		err := l.kube.patch(ctx, kindDaemonSet, probeNamespace, "sluice-probe", map[string]any{
			"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{containers[0]}, "volumes": volumes}}},
		})
		if err != nil {
			return err
		}
		return l.probesReady(ctx)
	}
	args, _ := containers[0]["args"].([]any)
	mounts, _ := containers[0]["volumeMounts"].([]any)
	var before []any
	for _, v := range volumes {
		before = append(before, v)
	}
	if err := l.kube.putConfigMap(ctx, "tampered", map[string][]byte{"probe.o": object}); err != nil {
		return nil, err
	}
	restore = func(ctx context.Context) error { return set(ctx, args, mounts, before) }
	return restore, set(ctx,
		append(args[:len(args):len(args)], "--object", "/tampered/probe.o", "--digest", digest),
		append(mounts[:len(mounts):len(mounts)], map[string]any{"name": "tampered", "mountPath": "/tampered"}),
		append(before[:len(before):len(before)], map[string]any{"name": "tampered", "configMap": map[string]any{"name": "tampered"}}))
}
