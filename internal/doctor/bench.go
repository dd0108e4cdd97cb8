package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// bench holds what the checks share. close removes all of it.
type bench struct {
	outDir string
	cgroup string // folder of our own cgroup, "" if there is none
}

func newBench(o Options) *bench {
	b := &bench{outDir: o.OutDir}
	if b.outDir == "" {
		b.outDir = "out"
	}
	_ = rlimit.RemoveMemlock() // kernels before 5.11 only; where it matters, loading says so
	return b
}

// close removes the cgroup. Ended processes leave theirs a little later.
func (b *bench) close() {
	for end := time.Now().Add(2 * time.Second); b.cgroup != ""; time.Sleep(5 * time.Millisecond) {
		err := os.Remove(b.cgroup)
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(end) {
			return
		}
	}
}

// mounts returns the mount points of a file system type.
func mounts(kind string) ([]string, error) {
	table, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return nil, err
	}
	return mountPoints(string(table), kind), nil
}

// mountPoints reads the text of /proc/mounts, in which blanks are octal escapes.
func mountPoints(table, kind string) []string {
	var found []string
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == kind {
			found = append(found, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(f[1]))
		}
	}
	return found
}

// onOwnThread runs f on a thread that ends with it, so that f may change the thread's namespaces. The main thread is
// spared: /proc/self shows its namespaces as those of the process, and it cannot end.
func onOwnThread(f func()) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(done)
		if unix.Gettid() == unix.Getpid() {
			onOwnThread(f)
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

// load loads a program of a few instructions.
func load(kind ebpf.ProgramType, attach ebpf.AttachType, code ...asm.Instruction) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "sluice_doctor", Type: kind, AttachType: attach, Instructions: code, License: "GPL",
	})
}

// accept is the body of a program that lets everything pass.
func accept() []asm.Instruction {
	return []asm.Instruction{asm.Mov.Imm(asm.R0, 1), asm.Return()}
}

// existing returns path or its nearest parent that exists.
func existing(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) || path == "/" {
			return path, err
		}
		path = filepath.Dir(path)
	}
}
