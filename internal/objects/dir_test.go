package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// Variables that make the test binary another process.
const (
	asWriter = "SLUICE_TEST_OBJECTS_WRITER"
	asFull   = "SLUICE_TEST_OBJECTS_FULL"
	diskSize = "SLUICE_TEST_OBJECTS_DISK_SIZE"
)

func TestMain(m *testing.M) {
	var err error
	switch {
	case os.Getenv(asWriter) != "":
		err = writeForever(os.Getenv(asWriter))
	case os.Getenv(asFull) != "":
		err = fillDisk(os.Getenv(asFull))
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func newDir(t *testing.T) (*History, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "history")
	h, err := Dir(dir, "node")
	if err != nil {
		t.Fatal(err)
	}
	return h, dir
}

// writeForever stores objects and says so on standard output, until it is killed.
func writeForever(dir string) error {
	h, err := Dir(dir, fmt.Sprint(os.Getpid()))
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		object := fmt.Appendf(bytes.Repeat([]byte("x"), 100_000), "%d %d", os.Getpid(), i)
		digest, err := h.Put(context.Background(), object, []byte("{}"))
		if err == nil {
			err = h.MarkGood(context.Background(), digest, "")
		}
		if err != nil {
			return err
		}
		fmt.Println(digest)
	}
}

// TestDirSurvivesKilledWriters kills processes with -9 while they write, again
// and again: what they said is stored, is stored, and the rest is readable.
func TestDirSurvivesKilledWriters(t *testing.T) {
	h, dir := newDir(t)
	var said []string
	for round := range testenv.Chaos(t, testenv.Kill, 6) {
		var running []*exec.Cmd
		var outputs []string
		for i := range 3 {
			out := filepath.Join(t.TempDir(), fmt.Sprint("said", i))
			running, outputs = append(running, startWriter(t, dir, out)), append(outputs, out)
		}
		for _, out := range outputs {
			for len(saidIn(t, out)) == 0 && t.Context().Err() == nil {
				time.Sleep(10 * time.Millisecond)
			}
		}
		time.Sleep(time.Duration(round%20) * 7 * time.Millisecond)
		for i, cmd := range running {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			said = append(said, saidIn(t, outputs[i])...)
		}
	}
	list, err := h.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]bool{}
	for _, e := range list {
		if _, err := h.Get(t.Context(), e.Digest); err != nil {
			t.Error(err)
		}
		good[string(e.Digest)] = e.Good
	}
	for _, digest := range said {
		if !good[digest] {
			t.Errorf("%q was stored and marked, and is not there", digest)
		}
	}
	// The next writer cleans up.
	if _, err := h.Put(t.Context(), []byte("one more"), nil); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	t.Logf("%d objects stored by writers that were killed", len(said))
}

// startWriter starts a process that stores objects and says their digests to the
// file out.
func startWriter(t *testing.T, dir, out string) *exec.Cmd {
	t.Helper()
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), asWriter+"="+dir), f, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// saidIn returns the lines of a file that have an end: the last may be cut.
func saidIn(t *testing.T, file string) []string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(raw), "\n")
	return lines[:len(lines)-1]
}

func TestDirJournal(t *testing.T) {
	for name, tt := range map[string]struct {
		damage func(raw []byte) []byte
		events int // −1: refused
	}{
		"whole":                        {func(raw []byte) []byte { return raw }, 3},
		"a last line without its end":  {func(raw []byte) []byte { return raw[:len(raw)-1] }, 2},
		"a half last line":             {func(raw []byte) []byte { return raw[:len(raw)-40] }, 2},
		"only the begin of a line":     {func([]byte) []byte { return []byte("a5") }, 0},
		"empty":                        {func([]byte) []byte { return nil }, 0},
		"a flipped bit":                {func(raw []byte) []byte { raw[40] ^= 1; return raw }, -1},
		"a flipped bit in a sum":       {func(raw []byte) []byte { raw[3] ^= 1; return raw }, -1},
		"an empty line":                {func(raw []byte) []byte { return append([]byte("\n"), raw...) }, -1},
		"a long half line":             {func(raw []byte) []byte { return append(raw, bytes.Repeat([]byte("x"), 5000)...) }, 3},
		"zeros, as a crash may leave":  {func(raw []byte) []byte { return append(raw, make([]byte, 512)...) }, 3},
		"zeros with an end":            {func(raw []byte) []byte { return append(append(raw, make([]byte, 512)...), '\n') }, -1},
		"a line that was put in twice": {func(raw []byte) []byte { return append(raw, raw[bytes.LastIndexByte(raw[:len(raw)-1], '\n')+1:]...) }, 4},
	} {
		t.Run(name, func(t *testing.T) {
			h, dir := newDir(t)
			digest, err := h.Put(t.Context(), []byte("object"), []byte("{}"))
			if err := errors.Join(err, h.MarkLoaded(t.Context(), digest), h.MarkGood(t.Context(), digest, "")); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, journalName)
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, tt.damage(raw), 0o600); err != nil {
				t.Fatal(err)
			}
			events, err := h.backend.events(t.Context(), "")
			var journal *JournalError
			if tt.events < 0 {
				if !errors.As(err, &journal) || journal.Path != path || journal.Line == 0 || journal.Hint() == "" {
					t.Errorf("got %v, want a JournalError", err)
				}
				return
			}
			if err != nil || len(events) != tt.events {
				t.Fatalf("%d events, %v, want %d", len(events), err, tt.events)
			}
			// Writing goes on behind what is whole.
			if _, err := h.Put(t.Context(), []byte("another"), nil); err != nil {
				t.Fatal(err)
			}
			if events, err = h.backend.events(t.Context(), ""); err != nil || len(events) != tt.events+1 {
				t.Errorf("after another one: %d events, %v", len(events), err)
			}
			if raw, err = os.ReadFile(path); err != nil || !bytes.HasSuffix(raw, []byte("}\n")) {
				t.Errorf("something is left behind the last line: %q, %v", raw, err)
			}
		})
	}
}

func TestDirLockedByAnother(t *testing.T) {
	h, dir := newDir(t)
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := h.List(t.Context()); err == nil || !strings.Contains(err.Error(), "another process holds") || time.Since(begin) > 2*lockWait {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

func TestDirMendsAnObject(t *testing.T) {
	h, dir := newDir(t)
	digest, err := h.Put(t.Context(), []byte("object"), nil)
	if err != nil {
		t.Fatal(err)
	}
	path := (&directory{dir}).object(digest)
	if err := os.WriteFile(path, []byte("objecT"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Get(t.Context(), digest); !errors.As(err, new(*bpf.DigestError)) {
		t.Errorf("changed: %v, want a DigestError", err)
	}
	if _, err := h.Put(t.Context(), []byte("object"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Get(t.Context(), digest); err != nil {
		t.Errorf("stored again: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Get(t.Context(), digest); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed: %v, want ErrNotFound", err)
	}
}

// TestDirFullDisk writes until a disk of 256 KiB and some pages is full.
func TestDirFullDisk(t *testing.T) {
	testenv.NeedRoot(t)
	for pages := range testenv.Chaos(t, testenv.FullDisk, 3) {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), asFull+"="+t.TempDir(), fmt.Sprint(diskSize, "=", 256+4*pages))
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS} // the disk goes with the process
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%d KiB: %v\n%s", 256+4*pages, err, out)
		}
	}
}

// fillDisk is the process of TestDirFullDisk.
func fillDisk(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+os.Getenv(diskSize)+"k"); err != nil {
		return err
	}
	h, err := Dir(filepath.Join(dir, "history"), "node")
	if err != nil {
		return err
	}
	stored := map[bpf.Digest]bool{}
	for i := 0; err == nil; i++ {
		var digest bpf.Digest
		if digest, err = h.Put(context.Background(), fmt.Appendf(bytes.Repeat([]byte("x"), 9000), "%d", i), []byte("{}")); err == nil {
			stored[digest] = true
		}
	}
	if !errors.Is(err, unix.ENOSPC) || len(stored) < 10 {
		return fmt.Errorf("after %d objects: %w; want ENOSPC", len(stored), err)
	}
	// Marks are small, but there comes a time when there is no room for these either.
	marks := 0
	for err = nil; err == nil; marks++ {
		for digest := range stored {
			err = h.MarkGood(context.Background(), digest, strings.Repeat("reason ", 300))
			break
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("after %d marks: %w; want ENOSPC", marks, err)
	}
	list, err := h.List(context.Background())
	if err != nil {
		return fmt.Errorf("reading while the disk is full: %w", err)
	}
	for _, e := range list {
		if _, err := h.Get(context.Background(), e.Digest); err != nil {
			return err
		}
		delete(stored, e.Digest)
	}
	left, err := filepath.Glob(filepath.Join(dir, "history", tempPrefix+"*"))
	if err != nil || len(left) != 0 || len(stored) != 0 {
		return fmt.Errorf("left %v, lost %v, %w", left, stored, err)
	}
	return nil
}

func FuzzDecodeLine(f *testing.F) {
	line, err := encodeLine(Event{Digest: bpf.DigestOf(nil), Kind: Good, By: "node", Reason: "it works\n"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.TrimSuffix(line, []byte("\n")))
	f.Add([]byte("0123456789abcdef {}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := decodeLine(line)
		if err != nil {
			return
		}
		again, err := encodeLine(e)
		if err != nil || bytes.Count(again, []byte("\n")) != 1 {
			t.Errorf("%+v is written as %q, %v", e, again, err)
		}
	})
}
