package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sluice-cd/sluice/internal/cgroup"
	"github.com/sluice-cd/sluice/internal/testenv"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sluice": main})
}

// TestScripts runs every script in testdata. They are the manual, too: each
// shows one thing that sluice does. UPDATE=1 rewrites expected output. SLUICE_BIN
// names a folder with another build of sluice (make cover).
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("rolls out real services")
	}
	testenv.NeedRoot(t)
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	programs := findPrograms(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			program := programs.of(env)
			env.Setenv("PATH", filepath.Dir(program)+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Vars = append(env.Vars, "GOCACHE="+strings.TrimSpace(string(cache)), "GOPROXY=off", "GOTOOLCHAIN=local", "SLUICE="+program)
			// For the script that gives up its privileges.
			return errors.Join(os.Chmod(env.WorkDir, 0o755), os.Chmod(filepath.Dir(env.WorkDir), 0o755))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "unique": unique, "freeport": freeport, "expand": expand, "background": background,
			"ends": ends, "await": await, "answers": answers, "gone": gone, "flip": flip, "tmpfs": tmpfs, "listen": listen, "jq": jq, "variable": variable,
			"commit": commit, "terminal": terminal, "serve": serve,
		},
	})
}

// patience is how long a script waits for what has to come, on however busy a
// machine.
const patience = 5 * time.Minute

// Scripts run side by side in this process.
var (
	ports   sync.Map // those that freeport gave out
	running sync.Map // background programs: script/name → *exec.Cmd
)

// exits CODE PROGRAM ARG... runs a program that has to end with the exit status.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	if got := status(ts, err); got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func status(ts *testscript.TestScript, err error) int {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		ts.Check(err)
		return 0
	}
	return exit.ExitCode()
}

// unique VAR makes up a service name that no other test has. Whatever is left of
// the service when the script ends is removed.
func unique(ts *testscript.TestScript, _ bool, args []string) {
	name := fmt.Sprintf("t%d-%s", os.Getpid(), ts.Name())
	ts.Setenv(args[0], name)
	ts.Defer(func() {
		for _, out := range []string{"out", "out2"} {
			if len(traces(name)) > 0 {
				_ = ts.Exec("sluice", "down", "-f", ts.MkAbs("sluice.yaml"), "--out", ts.MkAbs(out))
			}
		}
		_ = os.RemoveAll(filepath.Join("/run/sluice", name))
		_ = os.Remove(filepath.Join("/sys/fs/bpf/sluice", name))
	})
}

// freeport VAR finds a port on which nobody listens. It is below the range from
// which the kernel gives ports to clients.
func freeport(ts *testscript.TestScript, _ bool, args []string) {
	for port := 20000 + os.Getpid()%500*20; port < 32000; port++ {
		if _, taken := ports.LoadOrStore(port, true); taken {
			continue
		}
		if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			ts.Check(l.Close())
			ts.Setenv(args[0], strconv.Itoa(port))
			return
		}
	}
	ts.Fatalf("no port is free")
}

// expand FILE replaces $VARIABLES in files.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, file := range args {
		text := os.Expand(ts.ReadFile(file), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o644))
	}
}

// background NAME PROGRAM ARG... starts a program; what it writes goes to
// NAME.stdout and NAME.stderr.
func background(ts *testscript.TestScript, _ bool, args []string) {
	program, err := exec.LookPath(args[1])
	if args[1] == "sluice" {
		program, err = ts.Getenv("SLUICE"), nil
	}
	ts.Check(err)
	cmd := exec.Command(program, args[2:]...)
	cmd.Args[0] = args[1] // the test binary is sluice by that name
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "GOCACHE", "GOPROXY", "GOTOOLCHAIN", "GOCOVERDIR", "TMPDIR"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Stdout, err = os.Create(ts.MkAbs(args[0] + ".stdout"))
	ts.Check(err)
	cmd.Stderr, err = os.Create(ts.MkAbs(args[0] + ".stderr"))
	ts.Check(err)
	ts.Check(cmd.Start())
	key := ts.Name() + "/" + args[0]
	running.Store(key, cmd)
	ts.Defer(func() {
		if c, ok := running.LoadAndDelete(key); ok {
			_ = c.(*exec.Cmd).Process.Kill()
			_ = c.(*exec.Cmd).Wait()
		}
	})
}

// ends NAME CODE [SIGNAL] waits for a background program, after sending it a
// signal; -1 is the status of one that was killed.
func ends(ts *testscript.TestScript, _ bool, args []string) {
	v, ok := running.LoadAndDelete(ts.Name() + "/" + args[0])
	if !ok {
		ts.Fatalf("no program %q in the background", args[0])
	}
	cmd := v.(*exec.Cmd)
	if len(args) > 2 {
		sig := map[string]os.Signal{"INT": os.Interrupt, "KILL": os.Kill, "TERM": syscall.SIGTERM}[args[2]]
		ts.Check(cmd.Process.Signal(sig))
	}
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	timer.Stop()
	if got := strconv.Itoa(status(ts, err)); got != args[1] {
		ts.Fatalf("%s: exit status %s, want %s:\n%s", args[0], got, args[1], ts.ReadFile(args[0]+".stderr"))
	}
}

// await FILE TEXT waits until a file contains a text.
func await(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(patience)
	for ; time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if raw, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && strings.Contains(string(raw), args[1]) {
			return
		}
	}
	ts.Fatalf("no %q in %s after %v", args[1], args[0], patience)
}

// answers URL TEXT asks a service; it has to answer 200 with the text.
func answers(ts *testscript.TestScript, neg bool, args []string) {
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(args[0])
	if neg {
		if err == nil {
			ts.Fatalf("%s answers %s", args[0], resp.Status)
		}
		return
	}
	ts.Check(err)
	defer resp.Body.Close()
	body := make([]byte, 1024)
	n, _ := resp.Body.Read(body)
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(body[:n]), args[1]) {
		ts.Fatalf("%s answers %s %q, want 200 and %q", args[0], resp.Status, body[:n], args[1])
	}
}

// gone NAME makes sure that nothing is left of a service on this machine.
func gone(ts *testscript.TestScript, _ bool, args []string) {
	if left := traces(args[0]); len(left) > 0 {
		ts.Fatalf("left behind: %v", left)
	}
}

// traces lists what there is of a service: state, control groups, pins.
func traces(name string) []string {
	paths := []string{filepath.Join("/run/sluice", name, "state.json")}
	pins, _ := filepath.Glob(filepath.Join("/sys/fs/bpf/sluice", name, "*"))
	paths = append(paths, pins...)
	if root, err := cgroup.Root(); err == nil {
		paths = append(paths, filepath.Join(root, "sluice", name))
	}
	var left []string
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			left = append(left, path)
		}
	}
	return left
}

// flip FILE changes one byte in the middle of a file.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(found) == 0 {
		ts.Fatalf("no file %s", args[0])
	}
	raw, err := os.ReadFile(found[0])
	ts.Check(err)
	raw[len(raw)/2] ^= 1
	ts.Check(os.WriteFile(found[0], raw, 0o644))
}

// tmpfs DIR SIZE mounts a small file system.
func tmpfs(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(syscall.Mount("sluice-test", dir, "tmpfs", 0, "size="+args[1]))
	ts.Defer(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// listen PORT holds a port until the script ends.
func listen(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
}

// jq FILE PATH VALUE compares a value in a JSON file: elements of the path are
// separated by dots, a number is an index, -1 the last. A VALUE ">0" is any
// positive number. "keys" at the end of a path lists the names of an object.
func jq(ts *testscript.TestScript, neg bool, args []string) {
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &v))
	for _, elem := range strings.Split(args[1], ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[elem]
		case []any:
			if elem == "length" {
				v = float64(len(at))
				break
			}
			i, err := strconv.Atoi(elem)
			ts.Check(err)
			if i < 0 {
				i += len(at)
			}
			v = at[i]
		default:
			ts.Fatalf("%s: nothing at %s of %s", args[0], elem, args[1])
		}
	}
	f, number := v.(float64)
	raw, err := json.Marshal(v)
	ts.Check(err)
	got := strings.Trim(string(raw), `"`)
	if ok := got == args[2] || args[2] == ">0" && number && f > 0; ok == neg {
		ts.Fatalf("%s is %s, want %s", args[1], got, args[2])
	}
}

// variable NAME FILE puts the content of a file into a variable.
func variable(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], ts.ReadFile(args[1]))
}

// commit MESSAGE commits all files of the repository.
func commit(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec("git", "add", "-A"))
	ts.Check(ts.Exec("git", "-c", "user.name=jane", "-c", "user.email=jane@example.com", "commit", "-q", "-m", args[0]))
}
