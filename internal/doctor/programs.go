package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

func tryBTF(context.Context, *bench) (string, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return "", fmt.Errorf("reading the kernel's type information: %w", err)
	}
	if _, err := spec.AnyTypeByName("__sk_buff"); err != nil {
		return "", fmt.Errorf("finding a type in the kernel's type information: %w", err)
	}
	return "the kernel describes its types", nil
}

// hook is a place where a program is attached to a cgroup.
type hook struct {
	name   string
	kind   ebpf.ProgramType
	attach ebpf.AttachType
}

func tryCgroupSKB(_ context.Context, b *bench) (string, error) {
	return b.attach(
		hook{"incoming packets", ebpf.CGroupSKB, ebpf.AttachCGroupInetIngress},
		hook{"outgoing packets", ebpf.CGroupSKB, ebpf.AttachCGroupInetEgress})
}

func trySockOps(_ context.Context, b *bench) (string, error) {
	return b.attach(hook{"socket events", ebpf.SockOps, ebpf.AttachCGroupSockOps})
}

func tryBindHook(_ context.Context, b *bench) (string, error) {
	return b.attach(
		hook{"bind on IPv4", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Bind},
		hook{"bind on IPv6", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet6Bind},
		hook{"new sockets", ebpf.CGroupSock, ebpf.AttachCGroupInetSockCreate})
}

// attach loads a program for each hook and attaches it by a link to the bench's cgroup, which is empty.
func (b *bench) attach(hooks ...hook) (string, error) {
	if b.cgroup == "" {
		return "", dependsError{"cgroup v2"}
	}
	for _, h := range hooks {
		prog, err := load(h.kind, h.attach, accept()...)
		if err != nil {
			return "", fmt.Errorf("loading a program for %s: %w", h.name, err)
		}
		defer prog.Close()
		l, err := link.AttachCgroup(link.CgroupOptions{Path: b.cgroup, Attach: h.attach, Program: prog})
		if err != nil {
			return "", fmt.Errorf("attaching a program to %s: %w", h.name, err)
		}
		defer l.Close()
		if _, err := l.Info(); err != nil { // older kernels attach without a link, which nobody can then look at
			return "", fmt.Errorf("looking at the link of %s: %w", h.name, err)
		}
	}
	return "loaded and attached", nil
}

func trySKStorage(context.Context, *bench) (string, error) {
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	return makeMap(&ebpf.MapSpec{Type: ebpf.SkStorage, KeySize: 4, ValueSize: 4, Flags: unix.BPF_F_NO_PREALLOC, Key: number, Value: number})
}

func tryRingBuffer(context.Context, *bench) (string, error) {
	return makeMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
}

func makeMap(spec *ebpf.MapSpec) (string, error) {
	spec.Name = "sluice_doctor"
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return "", fmt.Errorf("making a map: %w", err)
	}
	return "a map was made", m.Close()
}

// tryLinkUpdate replaces an attached program and asks the kernel which one is attached then.
func tryLinkUpdate(_ context.Context, b *bench) (string, error) {
	if b.cgroup == "" {
		return "", dependsError{"cgroup v2"}
	}
	var progs [2]*ebpf.Program
	for i := range progs {
		prog, err := load(ebpf.CGroupSKB, ebpf.AttachCGroupInetIngress, accept()...)
		if err != nil {
			return "", fmt.Errorf("loading a program: %w", err)
		}
		defer prog.Close()
		progs[i] = prog
	}
	l, err := link.AttachCgroup(link.CgroupOptions{Path: b.cgroup, Attach: ebpf.AttachCGroupInetIngress, Program: progs[0]})
	if err != nil {
		return "", fmt.Errorf("attaching a program: %w", err)
	}
	defer l.Close()
	if err := l.Update(progs[1]); err != nil {
		return "", fmt.Errorf("replacing an attached program: %w", err)
	}
	attached, err := l.Info()
	if err != nil {
		return "", err
	}
	want, err := progs[1].Info()
	if err != nil {
		return "", err
	}
	if id, _ := want.ID(); attached.Program != id {
		return "", errors.New("after replacing an attached program the old one is still there")
	}
	return "an attached program was replaced", nil
}

func tryTestRun(context.Context, *bench) (string, error) {
	prog, err := load(ebpf.CGroupSKB, ebpf.AttachCGroupInetIngress, accept()...)
	if err != nil {
		return "", fmt.Errorf("loading a program: %w", err)
	}
	defer prog.Close()
	got, _, err := prog.Test(make([]byte, 64))
	if err != nil {
		return "", fmt.Errorf("running a program on a made-up packet: %w", err)
	}
	if got != 1 {
		return "", fmt.Errorf("a program that returns 1 returned %d", got)
	}
	return "a program ran on a made-up packet", nil
}

// tryBPFFS pins a map where the bpf file system is mounted, or mounts one where nobody else sees it.
func tryBPFFS(context.Context, *bench) (what string, err error) {
	found, err := mounts("bpf")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		return "mounted at " + found[0] + ", writable", pin(found[0])
	}
	dir, err := os.MkdirTemp("", "sluice-doctor-")
	if err != nil {
		return "", err
	}
	defer os.Remove(dir)
	onOwnThread(func() { err = mountBPFFS(dir) })
	return "not mounted, but it can be: mount -t bpf bpf /sys/fs/bpf", err
}

// mountBPFFS gives the thread its own mounts, and these a bpf file system for a moment.
func mountBPFFS(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		return fmt.Errorf("mounting a bpf file system: %w", err)
	}
	return errors.Join(pin(dir), unix.Unmount(dir, unix.MNT_DETACH))
}

func pin(dir string) error {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "sluice_doctor", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("making a map: %w", err)
	}
	defer m.Close()
	if err := m.Pin(filepath.Join(dir, "sluice_doctor_"+strconv.Itoa(os.Getpid()))); err != nil {
		return fmt.Errorf("pinning a map: %w", err)
	}
	return m.Unpin()
}

// steer is a program that gives every new connection to the socket in a map.
func steer(sockets *ebpf.Map) []asm.Instruction {
	return []asm.Instruction{
		asm.Mov.Reg(asm.R6, asm.R1), // the context
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, sockets.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Reg(asm.R7, asm.R0), // the socket
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkAssign.Call(),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.FnSkRelease.Call(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"),
		asm.Return(),
	}
}
