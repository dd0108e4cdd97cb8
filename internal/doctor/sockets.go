package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// trySockMap puts a listening socket into a map.
func trySockMap(context.Context, *bench) (what string, err error) {
	onOwnThread(func() {
		err = inNetwork(func(*ebpf.Map, int) error { return nil })
	})
	return "a listening socket was put into a map", err
}

// trySKLookup connects to a port where nobody listens, and has the kernel hand the connection to a socket elsewhere.
func trySKLookup(context.Context, *bench) (what string, err error) {
	onOwnThread(func() { err = inNetwork(connectSteered) })
	return "a connection was steered", err
}

// inNetwork gives the thread a network namespace of its own, and f a map that holds a listening socket there.
func inNetwork(f func(sockets *ebpf.Map, listener int) error) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("making a network namespace: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	if err := unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fmt.Errorf("binding a socket: %w", err)
	}
	if err := unix.Listen(listener, 1); err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	sockets, err := ebpf.NewMap(&ebpf.MapSpec{Name: "sluice_doctor", Type: ebpf.SockMap, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("making a map of sockets: %w", err)
	}
	defer sockets.Close()
	if err := sockets.Put(uint32(0), uint64(listener)); err != nil {
		return fmt.Errorf("putting a listening socket into a map: %w", err)
	}
	return f(sockets, listener)
}

func connectSteered(sockets *ebpf.Map, listener int) error {
	prog, err := load(ebpf.SkLookup, ebpf.AttachSkLookup, steer(sockets)...)
	if err != nil {
		return fmt.Errorf("loading a program for new connections: %w", err)
	}
	defer prog.Close()
	network, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer network.Close()
	l, err := link.AttachNetNs(int(network.Fd()), prog)
	if err != nil {
		return fmt.Errorf("attaching a program to a network namespace: %w", err)
	}
	defer l.Close()
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(client)
	for fd, option := range map[int]int{client: unix.SO_SNDTIMEO, listener: unix.SO_RCVTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &unix.Timeval{Usec: 500_000}); err != nil {
			return fmt.Errorf("limiting the time of a connection: %w", err)
		}
	}
	front := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 1}
	if err := again(func() error { return unix.Connect(client, front) }); err != nil {
		return fmt.Errorf("connecting through a program: %w", err)
	}
	var conn int
	if err := again(func() (err error) { conn, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC); return err }); err != nil {
		return fmt.Errorf("accepting a steered connection: %w", err)
	}
	return unix.Close(conn)
}

// again repeats a call that a signal interrupted: Go's scheduler sends them, and the kernel does not restart calls with
// a time limit. A second connect(2) waits for the first one.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
