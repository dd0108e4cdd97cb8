package bpf_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// collection has one program.
func collection(ins ...asm.Instruction) *ebpf.CollectionSpec {
	return &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{"ingress": {
		Name: "ingress", Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetIngress, License: "GPL", Instructions: ins,
	}}}
}

func TestAVerifierErrorTellsTheReason(t *testing.T) {
	testenv.NeedRoot(t)
	for name, tt := range map[string]struct {
		ins  asm.Instructions
		want string
	}{
		"a read of nothing": {asm.Instructions{asm.Mov.Reg(asm.R0, asm.R5), asm.Return()}, "R5 !read_ok"},
		"a wild pointer":    {asm.Instructions{asm.Mov.Imm(asm.R1, 0), asm.LoadMem(asm.R0, asm.R1, 0, asm.Word), asm.Return()}, "R1 invalid mem access"},
		"a loop":            {asm.Instructions{asm.Mov.Imm(asm.R0, 0).WithSymbol("a"), asm.Ja.Label("a"), asm.Return()}, "unreachable insn"},
		"no verdict":        {asm.Instructions{asm.Mov.Imm(asm.R0, 77), asm.Return()}, "should have been in [0, 1]"},
	} {
		t.Run(name, func(t *testing.T) {
			coll, err := bpf.Load(collection(tt.ins...), ebpf.CollectionOptions{})
			var load *bpf.LoadError
			if !errors.As(err, &load) || coll != nil {
				t.Fatalf("%v, want a LoadError", err)
			}
			if len(load.Lines) == 0 || !strings.Contains(strings.Join(load.Lines, "\n"), tt.want) || len(load.Lines) > 3 {
				t.Errorf("telling lines %q, want %q; the log is\n%s", load.Lines, tt.want, strings.Join(load.Log, "\n"))
			}
			if len(load.Log) == 0 || load.Hint() == "" || errors.Unwrap(err) == nil {
				t.Error("the log, the hint or the cause is missing")
			}
		})
	}
}

func TestAttachingIsAllOrNothing(t *testing.T) {
	group := testenv.TempCgroup(t)
	pass := asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}
	staged, err := bpf.Stage(collection(pass...), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer staged.Close()
	staged.Programs["wrong"] = staged.Programs["ingress"]
	if _, err := bpf.Attach(group, staged, map[string]ebpf.AttachType{
		"ingress": ebpf.AttachCGroupInetIngress, "wrong": ebpf.AttachCGroupSockOps,
	}, nil); err == nil || !strings.Contains(err.Error(), "wrong") {
		t.Fatalf("%v, want an error that names the program", err)
	}
	w, err := bpf.Attach(group, staged, map[string]ebpf.AttachType{"ingress": ebpf.AttachCGroupInetIngress}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Check(); err != nil {
		t.Errorf("something was left attached: %v", err)
	}
	p := w.Programs()
	if len(p) != 1 || p[0].ID == 0 || p[0].LinkID == 0 || len(p[0].Tag) != 16 || p[0].AttachedTo != group || p[0].AttachType == "" {
		t.Errorf("%+v", p)
	}
	for _, digest := range []bpf.Digest{p[0].LoadedDigest, p[0].XlatedDigest} {
		if len(digest) != len("sha256:")+64 {
			t.Errorf("%+v", p)
		}
	}
}

// inNamespace makes the test binary run one test in a mount namespace.
const inNamespace = "SLUICE_TEST_NAMESPACE"

func TestTheBPFFileSystemIsFoundOrMounted(t *testing.T) {
	testenv.NeedRoot(t)
	if os.Getenv(inNamespace) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	for unix.Unmount("/sys/fs/bpf", unix.MNT_DETACH) == nil {
	}
	for range 2 { // mounted, then found
		dir, err := bpf.MountedBPFFS()
		if err != nil {
			t.Fatal(err)
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.BPF_FS_MAGIC {
			t.Errorf("%s is no BPF file system: %x %v", dir, fs.Type, err)
		}
	}
}
