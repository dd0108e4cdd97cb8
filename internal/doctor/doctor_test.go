package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// asReport makes the test binary print the checks instead, so that tests can run them as another user.
const asReport = "SLUICE_DOCTOR_REPORT"

func TestMain(m *testing.M) {
	if out := os.Getenv(asReport); out != "" {
		if err := json.NewEncoder(os.Stdout).Encode(Run(context.Background(), Options{OutDir: out})); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// report runs the checks in a process of their own. command comes before the path of the test binary, which is given
// as a file descriptor: another user may not be able to reach it by name.
func report(t *testing.T, attr *syscall.SysProcAttr, command ...string) map[string]Check {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	command = append(command, "/proc/self/fd/3")
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.ExtraFiles, cmd.SysProcAttr, cmd.Dir = []*os.File{self}, attr, "/"
	cmd.Env = append(os.Environ(), asReport+"=/tmp/out")
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	var checks []Check
	if err := json.Unmarshal(output, &checks); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	byName := map[string]Check{}
	for _, c := range checks {
		byName[c.Name] = c
		if c.Name == "" || c.What == "" || c.NeededFor == "" || (c.Status == OK) != (c.Fix == "") && c.Status != Skipped {
			t.Errorf("incomplete: %+v", c)
		}
	}
	return byName
}

func TestThisMachineCanDoEverything(t *testing.T) {
	testenv.NeedRoot(t)
	start := time.Now()
	checks := Run(t.Context(), Options{OutDir: t.TempDir()})
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %v", took)
	}
	for _, c := range checks {
		t.Logf("%-18s %-8s %s", c.Name, c.Status, c.What)
		if c.Status != OK && !c.Optional {
			t.Errorf("%s is %s: %s (%s)", c.Name, c.Status, c.What, c.Fix)
		}
	}
	if !Fit(checks) {
		t.Error("not fit")
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	testenv.NeedRoot(t)
	Run(t.Context(), Options{OutDir: t.TempDir()}) // once before, for what the libraries keep
	before := leftovers(t)
	Run(t.Context(), Options{OutDir: t.TempDir()})
	var diff string
	for range 100 { // threads, programs and maps go a moment after their last user
		if diff = grown(before, leftovers(t)); diff == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("left behind: %s", diff)
}

// grown names what there is more of than before. Less is no harm: a thread of
// the run before may have taken its time.
func grown(before, after map[string]int) string {
	var more []string
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if after[name] > before[name] {
			more = append(more, fmt.Sprintf("%s: %d, before %d", name, after[name], before[name]))
		}
	}
	return strings.Join(more, "; ")
}

// leftovers counts what the checks could leave behind.
func leftovers(t *testing.T) map[string]int {
	t.Helper()
	found := map[string]int{}
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			break
		}
		if prog, err := ebpf.NewProgramFromID(next); err == nil {
			if info, err := prog.Info(); err == nil && info.Name == "sluice_doctor" {
				found["programs"]++
			}
			prog.Close()
		}
		id = next
	}
	count := func(name, pattern string) {
		list, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found[name] = len(list)
	}
	count("cgroups", testenv.CgroupRoot(t)+"/sluice-doctor-*")
	count("pins", "/sys/fs/bpf/sluice_doctor_*")
	count("folders", filepath.Join(os.TempDir(), "sluice-doctor-*"))
	count("open files", "/proc/self/fd/*")
	threads, err := filepath.Glob("/proc/self/task/*/ns/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range threads {
		if kind := filepath.Base(path); kind == "net" || kind == "mnt" {
			if name, err := os.Readlink(path); err == nil {
				found[name] = 1
			}
		}
	}
	return found
}

func TestAnOrdinaryUserIsToldToBecomeRoot(t *testing.T) {
	testenv.NeedRoot(t)
	checks := report(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
	if c := checks["privileges"]; c.Status != Missing || c.What != "user 65534 without CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_KILL" || c.Fix != rootFix {
		t.Errorf("got %+v", c)
	}
	for _, name := range []string{"cgroup v2", "network namespace", "bpf file system", "cgroup_skb", "sockops", "ring buffer", "program test run", "bind hook", "sk_lookup", "link update"} {
		c := checks[name]
		if c.Status != Skipped || !strings.HasPrefix(c.What, "needs root: ") && c.What != "not tried, because cgroup v2 is not ok" {
			t.Errorf("%s: got %+v", name, c)
		}
	}
	for _, name := range []string{"pidfd_getfd", "go", "disk"} { // these a user may do
		if c := checks[name]; c.Status != OK {
			t.Errorf("%s: got %+v", name, c)
		}
	}
}

func TestRootWithoutCapabilitiesIsToldWhich(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "setpriv")
	checks := report(t, nil, "setpriv", "--bounding-set=-sys_admin,-bpf,-perfmon,-net_admin", "--inh-caps=-sys_admin,-bpf,-perfmon,-net_admin")
	if c := checks["privileges"]; c.Status != Missing || c.What != "root without CAP_SYS_ADMIN, CAP_NET_ADMIN" {
		t.Errorf("got %+v", c)
	}
	if c := checks["sk_lookup"]; c.Status != Broken || c.Fix != containerFix || !strings.Contains(c.What, "making a network namespace: operation not permitted") {
		t.Errorf("got %+v", c)
	}
}

func TestMissingFileSystemsAreNamed(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "unshare")
	script := "for kind in cgroup2 bpf; do while umount -a -l -t $kind 2>/dev/null && grep -q \" $kind \" /proc/mounts; do :; done; done; exec \"$0\""
	checks := report(t, nil, "unshare", "--mount", "sh", "-c", script)
	if c := checks["cgroup v2"]; c.Status != Missing || c.What != "no file system of type cgroup2 is mounted" || !strings.HasPrefix(c.Fix, "mount -t cgroup2 ") {
		t.Errorf("got %+v", c)
	}
	if c := checks["bpf file system"]; c.Status != OK || !strings.Contains(c.What, "not mounted, but it can be") {
		t.Errorf("got %+v", c)
	}
	for _, name := range []string{"clone into cgroup", "cgroup_skb", "sockops", "bind hook", "link update"} {
		if c := checks[name]; c.Status != Skipped || c.What != "not tried, because cgroup v2 is not ok" {
			t.Errorf("%s: got %+v", name, c)
		}
	}
	for _, name := range []string{"sk_lookup", "sockmap", "ring buffer"} { // these need no cgroup
		if c := checks[name]; c.Status != OK {
			t.Errorf("%s: got %+v", name, c)
		}
	}
}

func TestErrorsBecomeTheRightStatus(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want Status
	}{
		"a system call that the kernel lacks":   {fmt.Errorf("x: %w", syscall.ENOSYS), Missing},
		"a map type that the kernel lacks":      {fmt.Errorf("x: %w", ebpf.ErrNotSupported), Missing},
		"an option that the kernel lacks":       {fmt.Errorf("x: %w", syscall.EINVAL), Missing},
		"a file that is not there":              {fmt.Errorf("x: %w", os.ErrNotExist), Missing},
		"something said to be missing":          {missingError{"x"}, Missing},
		"something an earlier check stands for": {dependsError{"cgroup v2"}, Skipped},
		"anything else":                         {errors.New("x"), Broken},
		"a refusal":                             {fmt.Errorf("x: %w", syscall.EPERM), Broken},
	} {
		t.Run(name, func(t *testing.T) {
			if got := classify(tt.err); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestFit(t *testing.T) {
	for name, tt := range map[string]struct {
		checks []Check
		want   bool
	}{
		"everything ok":         {[]Check{{Status: OK}}, true},
		"an optional tool":      {[]Check{{Status: OK}, {Status: Missing, Optional: true}}, true},
		"a needed feature":      {[]Check{{Status: OK}, {Status: Missing}}, false},
		"a check not tried":     {[]Check{{Status: Skipped}}, false},
		"something that broke":  {[]Check{{Status: Broken}}, false},
		"no time for the check": {Run(cancelled(t), Options{}), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Fit(tt.checks); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestMountPoints(t *testing.T) {
	table := "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\nbpf /mnt/my\\040bpf bpf rw 0 0\nshort\n"
	for kind, want := range map[string][]string{"cgroup2": {"/sys/fs/cgroup/unified"}, "bpf": {"/mnt/my bpf"}, "nfs": nil} {
		if diff := cmp.Diff(want, mountPoints(table, kind)); diff != "" {
			t.Errorf("%s: %s", kind, diff)
		}
	}
}
