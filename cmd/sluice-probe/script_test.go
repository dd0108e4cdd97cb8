package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/sign"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// serviceEnv makes the test binary a service that is measured, at that many
// addresses.
const serviceEnv = "SLUICE_TEST_SERVICE"

func TestMain(m *testing.M) {
	n, err := strconv.Atoi(os.Getenv(serviceEnv))
	if err != nil {
		code := m.Run()
		_ = os.RemoveAll(buildDir) // "" if nothing was built, which removes nothing
		os.Exit(code)
	}
	serve(n)
}

// serve answers at n addresses.
func serve(n int) {
	failed := make(chan error)
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr())
		go func() {
			failed <- http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }))
		}()
	}
	panic(<-failed)
}

// inGroup starts a process in a control group; it ends with this one.
func inGroup(dir *os.File) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
}

// buildFlags are those of a release.
var buildFlags = []string{"-trimpath", "-ldflags", "-s -w"}

// buildDir is where binary builds.
var buildDir string

// binary builds the daemon as it is shipped: without cgo, which it could not be
// confined with. SLUICE_BIN names a folder with another build (make cover).
var binary = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("SLUICE_BIN"); bin != "" {
		return filepath.Join(bin, "sluice-probe"), nil
	}
	var err error
	if buildDir, err = os.MkdirTemp("", "sluice-probe-test-"); err != nil {
		return "", err
	}
	program := filepath.Join(buildDir, "sluice-probe")
	cmd := exec.Command("go", append(append([]string{"build"}, buildFlags...), "-o", program, ".")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return program, os.Chmod(buildDir, 0o755)
})

func build(t testing.TB) string {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// TestScripts runs every script in testdata with the real daemon. They are the
// manual, too. Each has a control group $CGROUP with a service in it, a place for
// pins $PIN, and signed objects.
func TestScripts(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "etcd")
	program := build(t)
	fs, err := bpf.MountedBPFFS()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			group := testenv.TempCgroup(t)
			pin := filepath.Join(fs, filepath.Base(group))
			env.Defer(func() { _ = os.RemoveAll(pin) })
			env.Setenv("CGROUP", group)
			env.Setenv("PIN", pin)
			env.Setenv("ROOT", filepath.Dir(group))
			env.Setenv("PATH", filepath.Dir(program)+string(os.PathListSeparator)+env.Getenv("PATH"))
			for name, value := range map[string]string{
				"CGROUP": group, "PIN": pin, "LISTEN": "unix:" + env.WorkDir + "/probe.sock", "HISTORY": "dir:" + env.WorkDir + "/history",
				"INTERVAL": "100ms", "PROBATION": "1s",
			} {
				env.Setenv("SLUICE_PROBE_"+name, value)
			}
			return errors.Join(signed(env), os.Chmod(env.WorkDir, 0o755), os.Chmod(filepath.Dir(env.WorkDir), 0o755))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "start": start, "ends": ends, "service": service, "request": request, "get": get,
			"swap": swap, "rollback": rollback, "attack": attack, "counted": counted, "untouched": untouched, "listen": listen, "collector": collector, "state": state, "contained": contained, "certs": certs, "secure": secure, "etcd": etcd, "noetcd": noetcd,
		},
	})
}

// signed writes an object, its bundle and the key that signed it, and some that
// are wrong.
func signed(env *testscript.Env) error {
	dir := filepath.Join(env.WorkDir, "keys")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	key, public, err := sign.GenerateKey(dir, nil)
	if err != nil {
		return err
	}
	signer, err := sign.OpenSigner(key, nil)
	if err != nil {
		return err
	}
	object := bytes.Replace(probe.Object(), []byte("19.1.7"), []byte("19.9.9"), 1)
	bundle, err := signer.Blob(context.Background(), object)
	if err != nil {
		return err
	}
	foreign, err := os.ReadFile("../../bpf/bind/mover_bpfel.o")
	if err != nil {
		return err
	}
	foreignBundle, err := signer.Blob(context.Background(), foreign)
	if err != nil {
		return err
	}
	plain := append(probe.Object(), 0)
	plainBundle, err := signer.Blob(context.Background(), plain)
	if err != nil {
		return err
	}
	env.Setenv("KEY", public)
	env.Setenv("PLAIN", string(bpf.DigestOf(plain)))
	env.Setenv("DIGEST", string(bpf.DigestOf(object)))
	env.Setenv("BUILTIN", string(bpf.DigestOf(probe.Object())))
	var errs []error
	for name, content := range map[string][]byte{
		"probe.o": object, "probe.o.json": bundle, "plain.o": plain, "plain.o.json": plainBundle, "foreign.o": foreign, "foreign.o.json": foreignBundle, "cut.o": object[:len(object)/2],
	} {
		errs = append(errs, os.WriteFile(filepath.Join(env.WorkDir, name), content, 0o644))
	}
	return errors.Join(errs...)
}
