// Package bind lets two versions of a service that ask for the same fixed ports
// live side by side, without any change in the service.
//
// Inside a control group, a TCP socket that binds to a port gets another, free
// one; which it had asked for is remembered by the socket's cookie. Sockets with
// Multipath TCP are refused, so that programs fall back to plain TCP, which can
// be put into a sockmap.
package bind

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/bpf"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -Wall -Wextra -Werror -mcpu=v3 -I../include -I/usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" -type given mover bind.bpf.c

// Mover moves the ports of one control group.
type Mover struct {
	objs  moverObjects
	links []link.Link
}

// Attach begins to move the ports of every process in the control group, from
// its next bind(2) on.
func Attach(cgroupDir string) (_ *Mover, err error) {
	spec, err := loadMover()
	if err != nil {
		return nil, fmt.Errorf("reading the embedded port mover: %w", err)
	}
	coll, err := bpf.Load(spec, ebpf.CollectionOptions{})
	if err != nil {
		return nil, fmt.Errorf("loading the port mover: %w", err)
	}
	defer coll.Close()
	m := &Mover{}
	if err := coll.Assign(&m.objs); err != nil {
		return nil, fmt.Errorf("loading the port mover: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	for _, a := range []struct {
		program *ebpf.Program
		attach  ebpf.AttachType
	}{
		{m.objs.Bind4, ebpf.AttachCGroupInet4Bind},
		{m.objs.Bind6, ebpf.AttachCGroupInet6Bind},
		{m.objs.PostBind4, ebpf.AttachCGroupInet4PostBind},
		{m.objs.PostBind6, ebpf.AttachCGroupInet6PostBind},
		{m.objs.NoMptcp, ebpf.AttachCGroupInetSockCreate},
		{m.objs.Forget, ebpf.AttachCgroupInetSockRelease},
	} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroupDir, Attach: a.attach, Program: a.program})
		if err != nil {
			return nil, fmt.Errorf("attaching the port mover to %s: %w", cgroupDir, err)
		}
		m.links = append(m.links, l)
	}
	return m, nil
}

// Requested returns the port that a socket had asked for; ok is false for a
// socket that was not moved.
func (m *Mover) Requested(cookie uint64) (port uint16, ok bool) {
	var asked uint32
	if err := m.objs.Requested.Lookup(cookie, &asked); err != nil {
		return 0, false
	}
	return uint16(asked), true
}

// Close stops moving ports. Sockets keep those they have.
func (m *Mover) Close() error {
	var errs []error
	for _, l := range m.links {
		errs = append(errs, l.Close())
	}
	m.links = nil
	return errors.Join(append(errs, m.objs.Close())...)
}
