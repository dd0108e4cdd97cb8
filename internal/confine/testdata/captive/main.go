// Command captive confines itself as the daemon does, tries what a taken-over
// daemon would try, and prints what came of each attempt as JSON.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/internal/confine"
	"github.com/sluice-cd/sluice/policies"
)

// attempt is named as in the test's table.
type attempt struct {
	name string
	try  func() error
}

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run gets a folder that stays writable, one that does not, and the address of
// a listener.
func run(ours, theirs, listener string) error {
	raw, err := policies.FS.ReadFile("seccomp-probe.json")
	if err != nil {
		return err
	}
	profile, err := confine.ParseProfile(raw)
	if err != nil {
		return err
	}
	parent := os.Getppid()
	lock := make(chan struct{})
	for range 5 { // threads that are there before, and idle
		go func() { runtime.LockOSThread(); <-lock }()
	}
	time.Sleep(10 * time.Millisecond)
	report, err := confine.Apply(confine.Limits{
		Capabilities: []confine.Capability{unix.CAP_BPF, unix.CAP_NET_ADMIN},
		Profile:      profile.Serving(),
		Read:         []string{"/proc", "/etc/hosts"}, Write: []string{ours},
	})
	if err != nil {
		return err
	}
	results := map[string]string{}
	for _, a := range append(forbidden(theirs, parent), needed(ours, listener)...) {
		results[a.name] = "allowed"
		if err := a.try(); err != nil {
			results[a.name] = err.Error()
		}
	}
	results["landlock"] = fmt.Sprint(report.Landlock > 0)
	results["calls"] = fmt.Sprint(report.Calls)
	return json.NewEncoder(os.Stdout).Encode(results)
}

func call(number uintptr, args ...uintptr) func() error {
	return func() error {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, errno := syscall.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
			return errno
		}
		return nil
	}
}

func text(s string) uintptr {
	b, _ := unix.BytePtrFromString(s)
	return uintptr(unsafe.Pointer(b))
}

func forbidden(theirs string, parent int) []attempt {
	open := func(path string, flags int) func() error {
		return func() error {
			f, err := os.OpenFile(path, flags, 0o600)
			if err == nil {
				_ = f.Close()
			}
			return err
		}
	}
	return []attempt{
		{"execve", func() error { return unix.Exec("/proc/self/exe", []string{"x"}, nil) }},
		{"fork", func() error {
			_, err := syscall.ForkExec("/proc/self/exe", []string{"x"}, nil)
			return err
		}},
		{"ptrace", func() error { return unix.PtraceAttach(parent) }},
		{"mount", func() error { return unix.Mount("none", theirs, "tmpfs", 0, "") }},
		{"setuid", call(unix.SYS_SETUID, 1000)},
		{"setns", call(unix.SYS_SETNS, 0, 0)},
		{"unshare", call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER)},
		{"chroot", func() error { return unix.Chroot(theirs) }},
		{"pivot_root", call(unix.SYS_PIVOT_ROOT, text("/"), text("/"))},
		{"kexec_load", call(unix.SYS_KEXEC_LOAD)},
		{"init_module", call(unix.SYS_INIT_MODULE)},
		{"finit_module", call(unix.SYS_FINIT_MODULE)},
		{"reboot", call(unix.SYS_REBOOT, 0, 0, 0)},
		{"process_vm_readv", call(unix.SYS_PROCESS_VM_READV, uintptr(parent))},
		{"pidfd_getfd", call(unix.SYS_PIDFD_GETFD)},
		{"perf_event_open", call(unix.SYS_PERF_EVENT_OPEN)},
		{"userfaultfd", call(unix.SYS_USERFAULTFD)},
		{"io_uring", call(unix.SYS_IO_URING_SETUP, 1)},
		{"keyctl", call(unix.SYS_KEYCTL)},
		{"kill another process", call(unix.SYS_KILL, uintptr(parent), 0)},
		{"signal that kills", call(unix.SYS_TGKILL, uintptr(os.Getpid()), uintptr(os.Getpid()), uintptr(unix.SIGWINCH))},
		{"signal that the start needed", call(unix.SYS_TGKILL, uintptr(os.Getpid()), uintptr(os.Getpid()), 33)},
		{"socket AF_PACKET", call(unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW, 0)},
		{"socket AF_NETLINK", call(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, 0)},
		{"socket raw IPv4", call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)},
		{"listen on a new port", func() error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err == nil {
				_ = l.Close()
			}
			return err
		}},
		{"memory that can be executed", call(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE, ^uintptr(0), 0)},
		{"bpf: list programs", call(unix.SYS_BPF, unix.BPF_PROG_GET_NEXT_ID)},
		{"capabilities again", call(unix.SYS_CAPSET)},
		{"x32 call", call(0x40000000 + unix.SYS_GETPID)},
		{"memory of another process", open(fmt.Sprintf("/proc/%d/mem", parent), os.O_RDONLY)},
		{"environment of another process", open(fmt.Sprintf("/proc/%d/environ", parent), os.O_RDONLY)},
		{"write /etc/shadow", open("/etc/shadow", os.O_WRONLY)},
		{"read /etc/shadow", open("/etc/shadow", os.O_RDONLY)},
		{"a file beside ours", open(filepath.Join(theirs, "new"), os.O_CREATE|os.O_WRONLY)},
		{"remove a file beside ours", func() error { return os.Remove(filepath.Join(theirs, "old")) }},
	}
}

func needed(ours, listener string) []attempt {
	return []attempt{
		{"needed: write a file of ours", func() error {
			path := filepath.Join(ours, "state")
			if err := os.WriteFile(path+".tmp", []byte("x"), 0o600); err != nil {
				return err
			}
			below := filepath.Join(ours, "below")
			if err := os.Mkdir(below, 0o700); err != nil {
				return err
			}
			if err := os.Rename(path+".tmp", filepath.Join(below, "state")); err != nil {
				return err
			}
			if _, err := os.ReadFile(filepath.Join(below, "state")); err != nil {
				return err
			}
			return os.RemoveAll(below)
		}},
		{"needed: read what may be read", func() error { _, err := os.ReadFile("/proc/self/stat"); return err }},
		{"needed: connect", func() error {
			c, err := net.DialTimeout("tcp", listener, time.Second)
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Write([]byte("ping")); err != nil {
				return err
			}
			_, err = io.ReadFull(c, make([]byte, 4))
			return err
		}},
		{"needed: look up a name", func() error { _, err := net.LookupHost("localhost"); return err }},
		{"needed: timers and many threads", threads},
		{"needed: no capability in any thread but those kept", everyThread},
	}
}

// threads blocks many goroutines in system calls of their own, which makes the
// runtime start threads.
func threads() error {
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			runtime.LockOSThread()
			_ = unix.Nanosleep(&unix.Timespec{Nsec: 2e6}, nil)
		})
	}
	all.Wait()
	runtime.GC()
	<-time.After(time.Millisecond)
	return nil
}

// everyThread reads the state of each thread, those that came later included.
func everyThread() error {
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) < 6 {
		return fmt.Errorf("%d threads: %w", len(files), err)
	}
	want := map[string]string{
		"CapInh": "0000000000000000", "CapPrm": "0000008000001000", "CapEff": "0000008000001000", "CapBnd": "0000008000001000",
		"CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(raw)) {
			name, value, _ := strings.Cut(line, ":")
			if w, ok := want[name]; ok && strings.TrimSpace(value) != w {
				return fmt.Errorf("%s: %s is %s, want %s", file, name, strings.TrimSpace(value), w)
			}
		}
	}
	return nil
}
