package pack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// Offsets in a 64-bit ELF header and in its program headers, elf(5).
const (
	elfMachine = 18
	elfEntry   = 24
	elfProgs   = 64
	progType   = 0
	progOffset = 8
	progSize   = 32
)

func TestADamagedPackedFileIsRefused(t *testing.T) {
	upx := testenvPath(t, "upx")
	b := compile(t, "tiny", linux("amd64"))
	good := filepath.Join(t.TempDir(), "good")
	if out, err := exec.CommandContext(t.Context(), upx, "-1", "-q", "-o", good, b.Path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	put := func(at int, value uint64) func([]byte) []byte {
		return func(d []byte) []byte { binary.LittleEndian.PutUint64(d[at:], value); return d }
	}
	for name, tt := range map[string]struct {
		damage func([]byte) []byte
		reason string // of the header check alone; "" if only upx -t can see it
	}{
		"nothing":                {func(d []byte) []byte { return d }, "none"},
		"a changed byte of data": {func(d []byte) []byte { d[len(d)/2] ^= 0xff; return d }, ""},
		"a lost end":             {func(d []byte) []byte { return d[:len(d)/2] }, "ends beyond the file"},
		"an entry outside":       {put(elfEntry, 0x1234), "in no executable segment"},
		"a segment outside":      {put(elfProgs+progOffset, 1<<62), "ends beyond the file"},
		"a size beyond memory":   {put(elfProgs+progSize, 1<<62), "ends beyond the file"},
		"another processor":      {func(d []byte) []byte { d[elfMachine] = 183; return d }, "EM_AARCH64, want EM_X86_64"},
		"an interpreter":         {func(d []byte) []byte { d[elfProgs+progType] = 3; return d }, "dynamically linked"},
		"no UPX header": {
			func(d []byte) []byte { return bytes.ReplaceAll(d, upxMagic, []byte("XPU!")) }, "no UPX header",
		},
		"not an ELF file": {func(d []byte) []byte { return d[1:] }, "another file"},
		"nothing left":    {func([]byte) []byte { return nil }, "another file"},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(good)
			if err != nil {
				t.Fatal(err)
			}
			bad := filepath.Join(t.TempDir(), "bad")
			if err := os.WriteFile(bad, tt.damage(data), 0o755); err != nil {
				t.Fatal(err)
			}
			_, err = checkPacked(bad, linux("amd64"))
			var no *refusal
			switch {
			case tt.reason == "none" || tt.reason == "":
				if err != nil {
					t.Errorf("headers: got %v", err)
				}
			case !errors.As(err, &no) || !strings.Contains(no.reason, tt.reason):
				t.Errorf("headers: got %v, want %q", err, tt.reason)
			}
			j := &job{Options: Options{UPX: upx}, binary: b, result: &Result{}, packed: bad}
			if err := j.verify(t.Context()); (err == nil) != (tt.reason == "none") {
				t.Errorf("verify: got %v", err)
			}
		})
	}
}

func TestADamagedPackedWindowsFileIsRefused(t *testing.T) {
	upx := testenvPath(t, "upx")
	dir := t.TempDir()
	write(t, dir, "go.mod", "module example.org/win\n\ngo 1.24\n")
	write(t, dir, "main.go", "package main\n\nfunc main() { println(1) }\n")
	p := build.Platform{OS: "windows", Arch: "amd64"}
	original := compileModule(t, dir, ".", p).Path
	good := filepath.Join(dir, "good.exe")
	if out, err := exec.CommandContext(t.Context(), upx, "-1", "-q", "-o", good, original).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, tt := range map[string]struct {
		damage func([]byte) []byte
		reason string
	}{
		"a lost end":        {func(d []byte) []byte { return d[:len(d)/2] }, "ends beyond the file"},
		"another processor": {func(d []byte) []byte { d[bytes.Index(d, []byte("PE\x00\x00"))+4] ^= 1; return d }, "damaged"},
		"an entry outside": {func(d []byte) []byte {
			d[bytes.Index(d, []byte("PE\x00\x00"))+4+20+16+3] = 0x7f
			return d
		}, "in no section of UPX"},
		"an unpacked one": {func([]byte) []byte {
			d, _ := os.ReadFile(original)
			return d
		}, "in no section of UPX"},
		"a few bytes": {func(d []byte) []byte { return d[:70] }, "damaged"},
		"nothing":     {func([]byte) []byte { return nil }, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(good)
			if err != nil {
				t.Fatal(err)
			}
			bad := filepath.Join(t.TempDir(), "bad.exe")
			if err := os.WriteFile(bad, tt.damage(data), 0o755); err != nil {
				t.Fatal(err)
			}
			var no *refusal
			if _, err := checkPacked(bad, p); !errors.As(err, &no) || !strings.Contains(no.reason, tt.reason) {
				t.Errorf("got %v, want %q", err, tt.reason)
			}
		})
	}
	if text, err := checkPacked(good, p); err != nil || !strings.Contains(text, "section UPX1") {
		t.Errorf("got %q, %v", text, err)
	}
}

func testenvPath(t *testing.T, tool string) string {
	t.Helper()
	testenv.Need(t, tool)
	path, err := exec.LookPath(tool)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOriginalsThatMustNotBePacked(t *testing.T) {
	upx := testenvPath(t, "upx")
	gcc := testenvPath(t, "gcc")
	for name, tt := range map[string]struct {
		make   func(t *testing.T, dir, out string) *exec.Cmd
		reason string
	}{
		"a dynamic one": {func(t *testing.T, dir, out string) *exec.Cmd {
			write(t, dir, "x.c", "int main(void) { return 0; }\n")
			return exec.CommandContext(t.Context(), gcc, "-o", out, "x.c")
		}, "dynamically linked (interpreter /lib"},
		"one with cgo, though static": {func(t *testing.T, dir, out string) *exec.Cmd {
			write(t, dir, "go.mod", "module example.org/c\n\ngo 1.24\n")
			write(t, dir, "main.go", "package main\n\nimport \"C\"\n\nfunc main() {}\n")
			cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-linkmode=external -extldflags=-static", "-o", out)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "CC="+gcc)
			return cmd
		}, "built with cgo"},
		"a packed one": {func(t *testing.T, _, out string) *exec.Cmd {
			return exec.CommandContext(t.Context(), upx, "-1", "-o", out, compile(t, "tiny", build.Native()).Path)
		}, "packed already"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "out")
			cmd := tt.make(t, dir, path)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			b := build.Binary{Platform: build.Native(), Path: path}
			var err error
			if b.Digest, b.SizeBytes, err = build.Digest(path); err != nil {
				t.Fatal(err)
			}
			r, err := Pack(t.Context(), b, Options{UPX: upx})
			if err != nil || r.Packed || !strings.Contains(r.Reason, tt.reason) {
				t.Errorf("got %+v, %v, want %q", r, err, tt.reason)
			}
			if _, err := os.Stat(packedPath(b)); !os.IsNotExist(err) {
				t.Errorf("a packed file was left: %v", err)
			}
		})
	}
}

func TestComplaint(t *testing.T) {
	for name, tt := range map[string]struct{ out, want string }{
		"a refusal": {
			"File size\nupx: /tmp/a b/app: CantPackException: win64/arm64 is not yet supported\n\nPacked 0 files.\n",
			"CantPackException: win64/arm64 is not yet supported",
		},
		"a short one": {"upx: no file\n", "no file"},
		"silence":     {"", "no reason given"},
		"noise":       {"\xff\xfe\n", "no reason given"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := complaint([]byte(tt.out)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
