package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/engine/command"
	"github.com/sluice-cd/sluice/internal/engine/enginetest"
)

// job is one with everything in it.
func job() Job {
	return Job{
		Source: "/home/me/shop", Exclude: []string{"cosign.key"}, Out: "/home/me/shop/out", Binary: "/usr/bin/sluice",
		Commit: strings.Repeat("a1", 20), Run: "now", CA: "/etc/ssl/ca.pem",
		Secrets: map[string]string{"SLUICE_PASSPHRASE": "secret"},
		Files:   map[string]string{"cosign.key": "private"},
		Docker:  `{"auths":{}}`,
		Rollout: command.Rollout{
			Version: "v1.1.0", Env: []string{"A=it's"}, Args: []string{"--slow"}, Reproduce: true,
			URL: "http://127.0.0.1:8080/", Rate: 200,
		},
	}
}

const report = `{"version":"v1.1.0","outcome":"promoted"}`

// open is a session with the engine that records.
func open(t *testing.T, answers map[string]any) *Session {
	t.Helper()
	enginetest.Session.Reset(nil)
	s, err := Open(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	all := map[string]any{"contents": report, "export": "out", "defaultPlatform": "linux/amd64"}
	for name, answer := range answers {
		all[name] = answer
	}
	enginetest.Session.Reset(all)
	return s
}

func TestARunAsksTheEngineWhatItsPlanSays(t *testing.T) {
	small := job()
	small.Secrets, small.Files, small.Docker, small.Commit, small.CA, small.Exclude = nil, nil, "", "", "", nil
	small.Base, small.GoProxy = "/images/golang.tar", "file:///modules"
	small.Rollout.Env, small.Rollout.Args, small.Rollout.Reproduce, small.Rollout.File = nil, nil, false, "deploy/sluice.yaml"
	for name, j := range map[string]Job{"full": job(), "offline": small} {
		t.Run(name, func(t *testing.T) {
			s := open(t, map[string]any{"exitCode": 1, "stderr": "sluice: gate: fail: latency\n"})
			r, err := s.Run(t.Context(), j)
			if err != nil {
				t.Fatal(err)
			}
			if r.Status != 1 || string(r.Report) != report || r.Problem() != "gate: fail: latency" {
				t.Errorf("got %+v", r)
			}
			golden, got := filepath.Join("testdata", name+".txt"), enginetest.Session.Plan()+"\n"
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the engine is asked something else than %s says (UPDATE=1 rewrites it):\n%s", golden, got)
			}
		})
	}
}

func TestWhatAnEngineAnswersIsOneClearLine(t *testing.T) {
	for name, tt := range map[string]struct {
		field, answer string
		want, hint    string
	}{
		"no root":       {"exitCode", "running exec: security.insecure is not allowed", "refuses root capabilities", "engine.json"},
		"a broken copy": {"export", "a\nb\nno space left on device\n", "bringing the out folder back: ", ""},
		"no result":     {"contents", "no such file", "reading the result of the run", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, map[string]any{tt.field: errors.New(tt.answer)})
			_, err := s.Run(t.Context(), job())
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v, want %q in one line", err, tt.want)
			}
			var hinted interface{ Hint() string }
			if tt.hint != "" && (!errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), tt.hint)) {
				t.Errorf("no hint about %s", tt.hint)
			}
		})
	}
}

func TestAnInterruptIsNoFaultOfTheEngine(t *testing.T) {
	s := open(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Run(ctx, job()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAJobThatCannotWorkIsNotSent(t *testing.T) {
	s := open(t, nil)
	for name, change := range map[string]func(*Job){
		"no version": func(j *Job) { j.Rollout.Version = "v1" },
		"no load":    func(j *Job) { j.Rollout.Rate = 0 },
		"no address": func(j *Job) { j.Rollout.URL = "8080" },
		"no value":   func(j *Job) { j.Rollout.Env = []string{"A"} },
	} {
		j := job()
		change(&j)
		if _, err := s.Run(t.Context(), j); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if plan := enginetest.Session.Plan(); plan != "" {
		t.Errorf("the engine was asked: %s", plan)
	}
}

func TestAnEngineOfTheWrongVersionOrPlatformIsRefused(t *testing.T) {
	enginetest.Session.Reset(map[string]any{"version": "v0.19.0"})
	_, err := Open(t.Context(), io.Discard)
	var old *VersionError
	if !errors.As(err, &old) || !strings.Contains(err.Error(), "use v0.21.8 or newer") {
		t.Errorf("got %v", err)
	}
	s := open(t, map[string]any{"defaultPlatform": "plan9/mips"})
	var other *PlatformError
	if _, err := s.Run(t.Context(), job()); !errors.As(err, &other) || !strings.Contains(other.Hint(), "plan9/mips") {
		t.Errorf("got %v", err)
	}
}

func TestWithoutAnEngineNothingIsStartedAndNothingFetched(t *testing.T) {
	dir := t.TempDir()
	tool := filepath.Join(dir, "dagger")
	if err := os.WriteFile(tool, []byte("#!/bin/sh\ntouch "+dir+"/started\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", filepath.Join(dir, "engine.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for name, tt := range map[string]struct {
		env  map[string]string
		want string // "" is no error
	}{
		"nothing at all":            {map[string]string{"PATH": "/nowhere"}, "no dagger command in PATH"},
		"a command that is no file": {map[string]string{cliVariable: "/nowhere/dagger"}, "names /nowhere/dagger, which is no program"},
		"a command and no engine":   {nil, "no container called dagger-engine-v0.21.8 runs here"},
		"an image to download":      {map[string]string{runnerHost: "image://registry.example.com/engine"}, "would be downloaded"},
		"a socket that is gone":     {map[string]string{runnerHost: "unix:///nowhere.sock"}, "nobody answers at unix:///nowhere.sock"},
		"a port that is closed":     {map[string]string{runnerHost: "tcp://127.0.0.1:1"}, "nobody answers at tcp://127.0.0.1:1"},
		"no address":                {map[string]string{runnerHost: "engine"}, "which is no address"},
		"a session without a token": {map[string]string{sessionPort: "1", sessionToken: ""}, sessionToken + " is empty"},
		"a session that is over":    {map[string]string{sessionPort: "1", sessionToken: "t"}, "nobody answers at 127.0.0.1:1"},
		"an engine":                 {map[string]string{runnerHost: "unix://" + dir + "/engine.sock"}, ""},
		"a port of somewhere":       {map[string]string{runnerHost: "kube-pod://engine"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			without(t, sessionPort, cliVariable, runnerHost)
			t.Setenv("PATH", dir)
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			_, err := Find(t.Context())
			var missing *MissingError
			if tt.want == "" && err != nil || tt.want != "" && (!errors.As(err, &missing) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if missing != nil && !strings.Contains(missing.Hint(), runnerHost) {
				t.Error("the hint does not say where an engine is named")
			}
			if _, err := os.Stat(dir + "/started"); err == nil {
				t.Error("the dagger command was started")
			}
		})
	}
}

func TestAnEngineThatNeverAnswersIsMissing(t *testing.T) {
	defer func(d time.Duration) { connectTimeout = d }(connectTimeout)
	connectTimeout = 100 * time.Millisecond
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dagger"), []byte("#!/bin/sh\nexec cat\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	silent := func(network, address string) net.Listener {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	_, port, err := net.SplitHostPort(silent("tcp", "127.0.0.1:0").Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	silent("unix", filepath.Join(dir, "engine.sock"))
	for name, env := range map[string]map[string]string{
		"a session": {sessionPort: port, sessionToken: "t"},
		"a command": {runnerHost: "unix://" + dir + "/engine.sock", "PATH": dir + ":" + os.Getenv("PATH")},
	} {
		t.Run(name, func(t *testing.T) {
			without(t, sessionPort, cliVariable, runnerHost)
			for k, v := range env {
				t.Setenv(k, v)
			}
			_, err := Open(t.Context(), io.Discard)
			var missing *MissingError
			if !errors.As(err, &missing) || !strings.Contains(err.Error(), "did not answer within 100ms") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAnEngineInAContainerIsFound(t *testing.T) {
	dir := t.TempDir()
	for name, script := range map[string]string{
		"dagger": "exit 1", "docker": "exit 1", "podman": `test "$*" = "ps --format {{.Names}}" && printf 'db\ndagger-engine-v0.21.8\n'`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	without(t, sessionPort, cliVariable, runnerHost)
	t.Setenv("PATH", dir)
	p, err := Find(t.Context())
	if err != nil || p.Runner != "container+podman://dagger-engine-v0.21.8" {
		t.Errorf("got %+v, %v", p, err)
	}
}

// without takes variables away until the test ends.
func without(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		t.Setenv(name, "") // puts it back
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOnlyWhatProgramsWroteIsPassedOn(t *testing.T) {
	var b strings.Builder
	w := Steps(&b)
	for _, part := range []string{"1   : connect\n1   : [1s] | cloud url=https://example.com\n53  : [2m21s] | ✓ can", "ary  0.5s\n53  : ┆ ┆ [0.1s] |   50 %\n54  : Directory.export DONE [0.5s]\n", "55  : [1s] | cut"} {
		if _, err := io.WriteString(w, part); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := b.String(), "✓ canary  0.5s\n  50 %\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
