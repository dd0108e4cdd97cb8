//go:build linux

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/testenv"
)

func TestMain(m *testing.M) {
	if Reexec() {
		return
	}
	if service := os.Getenv("SANDBOX_TEST_TRY"); service != "" {
		answer, err := Try(context.Background(), Service{Path: service, Args: os.Args[1:], Health: "/healthz", Start: time.Minute})
		fmt.Println(answer.Status, answer.Port, err)
		return
	}
	code := m.Run()
	os.RemoveAll(programs)
	os.Exit(code)
}

// programs holds what program has built; other users may read it.
var (
	programs   string
	programsMu sync.Mutex
)

// program builds testdata/<name> for an architecture, once.
func program(t *testing.T, name, arch string) string {
	t.Helper()
	programsMu.Lock()
	defer programsMu.Unlock()
	if programs == "" {
		var err error
		if programs, err = os.MkdirTemp("", "sluice-test-"); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(programs, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(programs, name+"_"+arch)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, "./testdata/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v: %s", name, err, out)
	}
	return path
}

func TestTry(t *testing.T) {
	testenv.NeedRoot(t)
	path := program(t, "service", runtime.GOARCH)
	// In our own namespace the port is taken; the service must not notice.
	if l, err := net.Listen("tcp", "127.0.0.1:8080"); err == nil {
		defer l.Close()
	}
	for name, tt := range map[string]struct {
		service Service
		port    int
		body    string
	}{
		"on every address":              {Service{Args: []string{"serve", ":8080"}, Health: "/healthz"}, 8080, "ok\n"},
		"on a named port":               {Service{Args: []string{"serve", ":8080"}, Port: 8080, Health: "/healthz"}, 8080, "ok\n"},
		"on IPv4 loopback":              {Service{Args: []string{"serve", "127.0.0.1:80"}, Health: "/healthz"}, 80, "ok\n"},
		"on IPv6 loopback":              {Service{Args: []string{"serve", "[::1]:8080"}, Health: "/healthz"}, 8080, "ok\n"},
		"one of two ports, the first":   {Service{Args: []string{"two"}, Port: 9090, Health: "/healthz"}, 9090, "ok\n"},
		"one of two ports, the second":  {Service{Args: []string{"two"}, Port: 8080, Health: "/healthz"}, 8080, "ok\n"},
		"without a health path":         {Service{Args: []string{"serve", ":8080"}}, 8080, ""},
		"that never answers, by accept": {Service{Args: []string{"mute"}}, 8080, ""},
		"healthy only after a while":    {Service{Args: []string{"serve", ":8080"}, Health: "/late"}, 8080, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tt.service.Path = path
			answer, err := Try(t.Context(), tt.service)
			if err != nil || answer.Port != tt.port || string(answer.Body) != tt.body {
				t.Fatalf("got %+v, %v, want port %d, body %q", answer, err, tt.port, tt.body)
			}
			if want := tt.service.Health != ""; want != (answer.Status == 200) {
				t.Errorf("got status %d", answer.Status)
			}
			if answer.Startup < 100*time.Microsecond || answer.Startup > 5*time.Second {
				t.Errorf("started in %v", answer.Startup)
			}
			if answer.PeakRSSBytes < 1<<20 || answer.PeakRSSBytes > 1<<28 {
				t.Errorf("peak of %d bytes", answer.PeakRSSBytes)
			}
			noProcess(t, path)
		})
	}
}

func TestTryReportsWhatIsWrong(t *testing.T) {
	testenv.NeedRoot(t)
	path := program(t, "service", runtime.GOARCH)
	as := func(target any) func(error) bool { return func(err error) bool { return errors.As(err, target) } }
	for name, tt := range map[string]struct {
		service Service
		is      func(error) bool
		text    string
	}{
		"it ends at once": {
			Service{Args: []string{"exit"}}, as(new(*ExitError)), "exit status 3: no such database",
		},
		"it crashes": {
			Service{Args: []string{"panic"}}, as(new(*ExitError)), "exit status 2: panic: assignment to entry in nil map",
		},
		"its port is not there to be had": {
			Service{Args: []string{"serve", "192.0.2.1:80"}}, as(new(*ExitError)), "cannot assign requested address",
		},
		"it never listens": {
			Service{Args: []string{"silent"}}, as(new(*NotReadyError)), "it listens on no TCP port",
		},
		"it listens elsewhere": {
			Service{Args: []string{"serve", ":8080"}, Port: 80}, as(new(*NotReadyError)), "not listen on port 80: listening",
		},
		"it is not healthy": {
			Service{Args: []string{"serve", ":8080"}, Health: "/broken"}, as(new(*NotReadyError)), "GET /broken on port 8080: 502",
		},
		"it accepts and never answers": {
			Service{Args: []string{"mute"}, Health: "/healthz"}, as(new(*NotReadyError)), "asking port 8080",
		},
		"nobody said which port": {
			Service{Args: []string{"two"}, Health: "/healthz"}, as(new(*PortsError)), "[8080 9090]",
		},
		"there is no such file": {
			Service{Path: "/nonexistent"}, as(new(*os.PathError)), "starting /nonexistent",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.service.Path == "" {
				tt.service.Path = path
			}
			tt.service.Start = 700 * time.Millisecond
			_, err := Try(t.Context(), tt.service)
			if err == nil || !tt.is(err) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %T %v, want %q", err, err, tt.text)
			}
			noProcess(t, path)
		})
	}
}

func TestExitErrorIsBounded(t *testing.T) {
	testenv.NeedRoot(t)
	var exit *ExitError
	_, err := Try(t.Context(), Service{Path: program(t, "service", runtime.GOARCH), Args: []string{"exit"}})
	if !errors.As(err, &exit) || len(exit.Tail) != keptLines || exit.Tail[0] != "line 11" {
		t.Errorf("got %+v", exit)
	}
}

func TestTryPassesOnOnlyWhatItWasTold(t *testing.T) {
	testenv.NeedRoot(t)
	t.Setenv("SECRET", "hunter2")
	s := Service{Path: program(t, "service", runtime.GOARCH), Args: []string{"serve", ":80"}, Env: []string{"COLOUR=green"}, Health: "/environ"}
	answer, err := Try(t.Context(), s)
	body := string(answer.Body)
	if err != nil || !strings.Contains(body, "COLOUR=green") || strings.Contains(body, "hunter2") {
		t.Fatalf("got %q, %v", body, err)
	}
	_, dir, _ := strings.Cut(strings.TrimSpace(body), " in ")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("its directory %q is still there: %v", dir, err)
	}
	s.Dir = t.TempDir()
	if answer, err = Try(t.Context(), s); err != nil || !strings.Contains(string(answer.Body), " in "+s.Dir) {
		t.Errorf("got %q, %v, want to run in %s", answer.Body, err, s.Dir)
	}
}

func TestTryKillsWhatLeftTheProcessGroup(t *testing.T) {
	testenv.NeedRoot(t)
	path := program(t, "service", runtime.GOARCH)
	if _, err := Try(t.Context(), Service{Path: path, Args: []string{"child", "x"}, Health: "/healthz"}); err != nil {
		t.Fatal(err)
	}
	noProcess(t, path)
}

func TestTryCutsTheBody(t *testing.T) {
	testenv.NeedRoot(t)
	answer, err := Try(t.Context(), Service{Path: program(t, "service", runtime.GOARCH), Args: []string{"serve", ":80"}, Health: "/big"})
	if err != nil || len(answer.Body) != maxBody {
		t.Errorf("got %d bytes, %v", len(answer.Body), err)
	}
}

func TestCancelledTry(t *testing.T) {
	testenv.NeedRoot(t)
	path := program(t, "service", runtime.GOARCH)
	for _, args := range [][]string{{"silent"}, {"mute"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		began := time.Now()
		_, err := Try(ctx, Service{Path: path, Args: args, Health: "/healthz"})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 3*time.Second {
			t.Errorf("%s: got %v after %v", args, err, time.Since(began))
		}
		noProcess(t, path)
	}
}

func TestTryDoesNotLeakItsNamespace(t *testing.T) {
	testenv.NeedRoot(t)
	path := program(t, "service", runtime.GOARCH)
	before := networks(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := Try(t.Context(), Service{Path: path, Args: []string{"serve", ":80"}, Health: "/healthz"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	deadline := time.Now().Add(5 * time.Second)
	for len(networks(t)) != len(before) && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond) // threads end a moment after their goroutine
	}
	if after := networks(t); len(after) != 1 {
		t.Errorf("threads of this process are in the namespaces %v, before in %v", after, before)
	}
}

// networks returns the network namespaces of our threads.
func networks(t *testing.T) map[string]int {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, task := range tasks {
		if ns, err := os.Readlink(task); err == nil {
			found[ns]++
		}
	}
	return found
}

func TestTryUnderQemu(t *testing.T) {
	testenv.NeedRoot(t)
	arch, qemu := "arm64", "qemu-aarch64-static"
	if runtime.GOARCH == arch {
		arch, qemu = "amd64", "qemu-x86_64-static"
	}
	testenv.Need(t, qemu)
	path := program(t, "tiny", arch)
	answer, err := Try(t.Context(), Service{Path: path, Runner: []string{qemu}, Health: "/", Start: 30 * time.Second})
	if err != nil || answer.Status != 200 || string(answer.Body) != "tiny unset\n" || answer.Port != 8080 {
		t.Errorf("got %+v, %v", answer, err)
	}
}

func TestTryWithoutRoot(t *testing.T) {
	testenv.NeedRoot(t) // to become somebody else
	service := program(t, "service", runtime.GOARCH)
	self := filepath.Join(programs, "self")
	copyProgram(t, self)
	for name, tt := range map[string]struct{ args, want string }{
		"a healthy service": {"serve :8080", "200 8080 <nil>\n"},
		"one that ends":     {"exit", "0 0 " + service + " ended before it answered: exit status 3: no such database\n"},
		"one with two":      {"two", "0 0 " + service + " listens on several ports: [8080 9090]\n"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), self, strings.Fields(tt.args)...)
			cmd.Dir = "/"
			cmd.Env = []string{"SANDBOX_TEST_TRY=" + service, "PATH=" + os.Getenv("PATH"), "GOCOVERDIR=" + os.Getenv("GOCOVERDIR")}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			out, err := cmd.CombinedOutput()
			if strings.Contains(string(out), "creating a network namespace") {
				t.Skipf("user namespaces are not allowed here: %s", out)
			}
			if err != nil || string(out) != tt.want {
				t.Errorf("got %q, %v, want %q", out, err, tt.want)
			}
			noProcess(t, service)
		})
	}
}

func TestTryWithoutRootAndWithoutHelper(t *testing.T) {
	refused := &NotAllowedError{syscall.EPERM}
	reexecs = false
	defer func() { reexecs = true }()
	var got *NotAllowedError
	_, err := tryInUserNamespace(t.Context(), Service{Path: "/bin/true"}, refused)
	if !errors.As(err, &got) || !strings.Contains(got.Hint(), "root") || !errors.Is(err, syscall.EPERM) {
		t.Errorf("got %v", err)
	}
}

// A kill -9 of whoever called Try takes the service along.
func TestNothingOutlivesTheCaller(t *testing.T) {
	testenv.NeedRoot(t)
	service := program(t, "service", runtime.GOARCH)
	self := filepath.Join(programs, "self9")
	copyProgram(t, self)
	cmd := exec.CommandContext(t.Context(), self, "silent")
	tmp := t.TempDir()
	cmd.Env = []string{"SANDBOX_TEST_TRY=" + service, "TMPDIR=" + tmp}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for len(running(t, service)) == 0 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	if len(running(t, service)) == 0 {
		t.Error("the service was not started")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	noProcess(t, service)
	// Only its directory is left, until somebody else calls Try.
	t.Setenv("TMPDIR", tmp)
	if left, _ := os.ReadDir(tmp); len(left) != 1 {
		t.Errorf("the killed process left %v", left)
	}
	if _, err := Try(t.Context(), Service{Path: service, Args: []string{"exit"}}); err == nil {
		t.Error("a service that exits was found healthy")
	}
	if left, _ := os.ReadDir(tmp); len(left) != 0 {
		t.Errorf("still there: %v", left)
	}
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// noProcess fails if a process of the program is left after a moment.
func noProcess(t *testing.T, path string) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Second)
	for len(running(t, path)) > 0 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	if left := running(t, path); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}

func running(t *testing.T, path string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, link := range links {
		if exe, err := os.Readlink(link); err == nil && exe == path {
			found = append(found, link)
		}
	}
	return found
}
