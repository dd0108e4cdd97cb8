package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// TestMain lets the test binary be the writer that TestKillNine kills and the
// one that TestFullDisk gives a small disk of its own.
func TestMain(m *testing.M) {
	for variable, write := range map[string]func(string) error{
		"SLUICE_TEST_WRITE_LAYOUT": writeForever, "SLUICE_TEST_FULL_DISK": fillDisk,
	} {
		dir := os.Getenv(variable)
		if dir == "" {
			continue
		}
		if err := write(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// writeForever publishes release after release and prints each tag when done.
func writeForever(dir string) error {
	var c Config
	if err := json.Unmarshal([]byte(os.Getenv("SLUICE_TEST_CONFIG")), &c); err != nil {
		return err
	}
	prefix := os.Getpid()
	for i := 0; ; i++ {
		l, err := OpenLayout(dir)
		if err != nil {
			return err
		}
		c.Version = fmt.Sprintf("v%d.%d.0", prefix, i)
		if _, err := publish(l, c); err != nil {
			return err
		}
		fmt.Println(c.Version)
	}
}

// TestKillNine kills two writers at a random moment, again and again, in one
// directory. After each kill the layout opens, everything that it lists is
// complete, each tag has its referrers, and no finished tag is lost.
func TestKillNine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "oci")
	c := config(t, certificate(t, 1), "")
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var finished []string
	rounds := testenv.Chaos(t, testenv.Kill, 40)
	for range rounds {
		finished = append(finished, killed(t, dir, string(text))...)
		l, err := OpenLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Verify(); err != nil {
			t.Fatal(err)
		}
		index, err := l.index()
		if err != nil {
			t.Fatal(err)
		}
		referrers, err := l.allReferrers()
		if err != nil {
			t.Fatal(err)
		}
		tagged := map[string]bool{}
		for _, d := range index.Manifests {
			if tag := d.Annotations[tagAnnotation]; tag != "" {
				tagged[tag] = true
				if n := len(referrers[d.Digest]); n != 2 {
					t.Fatalf("%s has %d referrers; want 2", tag, n)
				}
			}
		}
		for _, tag := range finished {
			if !tagged[tag] {
				t.Fatalf("%s was published and is gone", tag)
			}
		}
	}
	t.Logf("%d releases in %d rounds", len(finished), rounds)
	if len(finished) == 0 {
		t.Error("no writer lived long enough to finish a release")
	}
	// The next writer clears away what the killed ones left.
	mustPublish(t, open(t, dir), config(t, certificate(t, 1), "v0.0.1"))
	for name := range content(t, dir) {
		if strings.HasPrefix(name, "/"+tempPrefix) {
			t.Errorf("%s is left", name)
		}
	}
}

// killed runs two writers, kills them and returns the tags they reported.
func killed(t *testing.T, dir, config string) []string {
	t.Helper()
	type writer struct {
		cmd      *exec.Cmd
		out, err bytes.Buffer
	}
	writers := make([]writer, 2)
	for i := range writers {
		w := &writers[i]
		w.cmd = exec.CommandContext(t.Context(), os.Args[0])
		w.cmd.Env = append(os.Environ(), "SLUICE_TEST_WRITE_LAYOUT="+dir, "SLUICE_TEST_CONFIG="+config)
		w.cmd.Stdout, w.cmd.Stderr = &w.out, &w.err
		if err := w.cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Duration(20+rand.IntN(250)) * time.Millisecond)
	var tags []string
	for i := range writers {
		w := &writers[i]
		if err := w.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		_ = w.cmd.Wait()
		if status, ok := w.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Fatalf("a writer ended by itself: %v %s", w.cmd.ProcessState, w.err.String())
		}
		tags = append(tags, strings.Fields(w.out.String())...)
	}
	return tags
}
