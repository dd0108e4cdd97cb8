package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// sysctls are settings of the whole machine which the kubelet demands. It sees
// files that say so, and the machine keeps what it has.
var sysctls = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// mountHost makes the mount namespace of the cluster out of a copy of the
// machine's, of which nothing comes back.
func mountHost(s state) error {
	if err := mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	for name, value := range sysctls {
		target := filepath.Join("/proc/sys", name)
		if _, err := os.Stat(target); err != nil {
			continue // this kernel has no such setting
		}
		file := s.path("sysctl", strings.ReplaceAll(name, "/", "_"))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fmt.Errorf("hiding %s: %w", target, err)
		}
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return fmt.Errorf("hiding %s: %w", target, err)
		}
		if err := mount(file, target, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
	}
	return mountSys()
}

// mountSys gives the network namespace a view of its own of /sys and /run. The
// file system for pinned eBPF objects is a new one, too.
func mountSys() error {
	if err := mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return err
	}
	if err := mount("bpf", "/sys/fs/bpf", "bpf", 0, "mode=700"); err != nil {
		return err
	}
	_ = mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, "") // not every kernel has it, not everybody needs it
	return mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
}

// mountNode adds what a node writes to: /var/lib and /var/log show the machine's
// files, and changes go into the folder of the node.
func mountNode(dir string) error {
	for _, target := range []string{"/var/lib", "/var/log"} {
		upper, work := filepath.Join(dir, target, "upper"), filepath.Join(dir, target, "work")
		for _, d := range []string{upper, work} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return fmt.Errorf("making the folders of the node: %w", err)
			}
		}
		if err := mount("overlay", target, "overlay", 0, "lowerdir="+target+",upperdir="+upper+",workdir="+work); err != nil {
			return err
		}
	}
	// The kubelet measures and mounts in its folder, which no overlay likes.
	kubelet := filepath.Join(dir, "kubelet")
	for _, d := range []string{kubelet, "/var/lib/kubelet"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("making the folders of the node: %w", err)
		}
	}
	return mount(kubelet, "/var/lib/kubelet", "", syscall.MS_BIND, "")
}

// share lets mounts made later be seen by the pods that ask for it.
func share() error { return mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, "") }
