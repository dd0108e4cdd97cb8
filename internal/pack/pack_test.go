package pack

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/sandbox"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// compile builds a main package below internal/sandbox/testdata.
func compile(t *testing.T, name string, p build.Platform) build.Binary {
	t.Helper()
	return compileModule(t, "../..", "./internal/sandbox/testdata/"+name, p)
}

func compileModule(t *testing.T, dir, main string, p build.Platform) build.Binary {
	t.Helper()
	binaries, err := build.Compile(t.Context(), build.Options{
		Dir: dir, Main: main, Name: "svc", Version: "v1.0.0", Platforms: []build.Platform{p}, OutDir: t.TempDir(),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return binaries[0]
}

func linux(arch string) build.Platform { return build.Platform{OS: "linux", Arch: arch} }

var shop = sandbox.Service{Args: []string{"serve", ":8080"}, Health: "/healthz"}

func TestPackKeepsAWorkingBinary(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "upx")
	b := compile(t, "service", build.Native())
	r, err := Pack(t.Context(), b, Options{Service: shop, MaxStart: time.Minute})
	if err != nil || !r.Packed || r.Reason != "" {
		t.Fatalf("got %+v, %v", r, err)
	}
	if want := b.Path + ".upx"; r.Path != want {
		t.Errorf("got %s, want %s", r.Path, want)
	}
	digest, size, err := build.Digest(r.Path)
	if err != nil || digest != r.Digest || size != r.PackedBytes || size > r.StrippedBytes*8/10 {
		t.Errorf("got %+v, the file has %s, %d bytes, %v", r, digest, size, err)
	}
	if r.StrippedStart <= 0 || r.PackedStart <= r.StrippedStart || r.StrippedRSS <= 0 || r.PackedRSS <= 0 {
		t.Errorf("measured %+v", r)
	}
	if digest, _, _ := build.Digest(b.Path); digest != b.Digest {
		t.Errorf("the original has changed")
	}
	checks := strings.Join(r.Checks, "\n")
	for _, want := range []string{"static", "saved", "upx -t: intact", "entry", "both answer 200 and the same 3 bytes", "start:"} {
		if !strings.Contains(checks, want) {
			t.Errorf("no %q in\n%s", want, checks)
		}
	}
	onlyFiles(t, b, "svc", "svc.upx")
}

func onlyFiles(t *testing.T, b build.Binary, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(b.Path))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files: %s", diff)
	}
}

func TestPackRevertsWithTheReason(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "upx")
	b := compile(t, "service", build.Native())
	with := func(args ...string) sandbox.Service {
		return sandbox.Service{Args: args, Health: "/healthz", Start: 2 * time.Second}
	}
	for name, tt := range map[string]struct {
		options Options
		reason  string
	}{
		"too little saved":      {Options{Service: shop, MinSaving: 0.95}, "less than 95 %"},
		"too slow a start":      {Options{Service: shop, MaxStart: time.Microsecond}, "more than 1µs"},
		"a service that ends":   {Options{Service: with("exit")}, "the unpacked binary does not work here, so packing cannot be checked"},
		"one that never serves": {Options{Service: with("silent")}, "listens on no TCP port"},
	} {
		t.Run(name, func(t *testing.T) {
			stale := b.Path + ".upx"
			if err := os.WriteFile(stale, []byte("of an earlier run"), 0o755); err != nil {
				t.Fatal(err)
			}
			r, err := Pack(t.Context(), b, tt.options)
			if err != nil || r.Packed || !strings.Contains(r.Reason, tt.reason) {
				t.Fatalf("got %+v, %v, want the reason %q", r, err, tt.reason)
			}
			if r.Path != b.Path || r.Digest != b.Digest || r.PackedBytes == 0 {
				t.Errorf("got %+v", r)
			}
			onlyFiles(t, b, "svc")
		})
	}
}

func TestPackAcceptsABodyThatAlwaysChanges(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "upx")
	service := shop
	service.Health = "/clock"
	r, err := Pack(t.Context(), compile(t, "service", build.Native()), Options{Service: service, MaxStart: time.Minute})
	if err != nil || !r.Packed || !strings.Contains(strings.Join(r.Checks, "\n"), "changes from run to run") {
		t.Errorf("got %+v, %v", r, err)
	}
}

// A packer that packs another program, as a wrong cache or a bug would do.
func TestPackRefusesADifferentProgram(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "upx")
	for name, tt := range map[string]struct{ source, reason string }{
		"with another answer": {
			strings.Replace(answering, "200 OK", "200 OK\\r\\nX-A: b", 1) + `var body = "other\n"`,
			"gives another body",
		},
		"with another status": {strings.Replace(answering, "200 OK", "204 No Content", 1) + `var body = ""`, "answers 204, the unpacked one 200"},
		"that ends at once":   {"package main\n\nfunc main() { panic(\"wrong stub\") }\n", "the packed binary does not work: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "go.mod", "module example.org/other\n\ngo 1.24\n")
			write(t, dir, "main.go", tt.source)
			other := compileModule(t, dir, ".", build.Native())
			fake := filepath.Join(dir, "upx")
			write(t, dir, "upx", "#!/bin/sh\n"+
				"for last; do :; done\n"+
				"case \"$*\" in *-t*) exec /usr/bin/upx -q -t \"$last\";; esac\n"+
				"exec /usr/bin/upx -q -1 -o \"$5\" "+other.Path+"\n")
			if err := os.Chmod(fake, 0o755); err != nil {
				t.Fatal(err)
			}
			service := sandbox.Service{Health: "/", Start: 5 * time.Second}
			r, err := Pack(t.Context(), compile(t, "tiny", build.Native()), Options{UPX: fake, Service: service, MaxStart: time.Minute})
			if err != nil || r.Packed || !strings.Contains(r.Reason, tt.reason) {
				t.Errorf("got %+v, %v, want the reason %q", r, err, tt.reason)
			}
		})
	}
}

const answering = `package main

import "syscall"

func main() {
	fd, _ := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	syscall.Bind(fd, &syscall.SockaddrInet4{Port: 8080})
	syscall.Listen(fd, 16)
	buf := make([]byte, 4096)
	for {
		conn, _, _ := syscall.Accept(fd)
		syscall.Read(conn, buf)
		syscall.Write(conn, []byte("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+body))
		syscall.Close(conn)
	}
}

`

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPackForForeignProcessors(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "upx")
	for _, p := range []build.Platform{linux("arm64"), {OS: "linux", Arch: "arm", Variant: "v7"}} {
		t.Run(p.String(), func(t *testing.T) {
			if p.Arch == runtime.GOARCH {
				t.Skip("not foreign here")
			}
			testenv.Need(t, emulators[p.Arch])
			b := compile(t, "tiny", p)
			// A start that no emulator manages, to see that it is not judged.
			o := Options{Service: sandbox.Service{Health: "/", Start: time.Minute}, MaxStart: time.Nanosecond, RequireRun: true}
			r, err := Pack(t.Context(), b, o)
			if err != nil || !r.Packed || r.Reason != "" || r.PackedStart == 0 {
				t.Fatalf("got %+v, %v", r, err)
			}
			if checks := strings.Join(r.Checks, "\n"); !strings.Contains(checks, "under /") || !strings.Contains(checks, "both answer 200") {
				t.Errorf("got %s", checks)
			}
		})
	}
}

func TestPackWithoutAnEmulator(t *testing.T) {
	testenv.Need(t, "upx")
	arch := "arm64"
	if runtime.GOARCH == arch {
		arch = "amd64"
	}
	b := compile(t, "tiny", linux(arch))
	upx, err := exec.LookPath("upx")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "/nonexistent")
	r, err := Pack(t.Context(), b, Options{UPX: upx})
	if err != nil || !r.Packed || !strings.Contains(r.Reason, "not run: qemu-") || r.PackedStart != 0 {
		t.Errorf("got %+v, %v", r, err)
	}
	r, err = Pack(t.Context(), b, Options{UPX: upx, RequireRun: true})
	if err != nil || r.Packed || !strings.Contains(r.Reason, "not run: qemu-") {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestPackForWindows(t *testing.T) {
	testenv.Need(t, "upx")
	dir := t.TempDir()
	write(t, dir, "go.mod", "module example.org/win\n\ngo 1.24\n")
	write(t, dir, "main.go", "package main\n\nfunc main() { println(1) }\n")
	b := compileModule(t, dir, ".", build.Platform{OS: "windows", Arch: "amd64"})
	r, err := Pack(t.Context(), b, Options{})
	if err != nil || !r.Packed || !strings.Contains(r.Reason, "a windows binary cannot be started on linux") {
		t.Fatalf("got %+v, %v", r, err)
	}
	onlyFiles(t, b, "svc.exe", "svc.upx.exe")
}

func TestPackRefusesWithoutRunning(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	write(t, filepath.Dir(text), "text", "#!/bin/sh\n")
	for name, tt := range map[string]struct {
		platform build.Platform
		reason   string
	}{
		"riscv64":          {linux("riscv64"), "upx cannot pack linux/riscv64"},
		"macOS":            {build.Platform{OS: "darwin", Arch: "arm64"}, "upx cannot pack darwin/arm64"},
		"Windows on arm64": {build.Platform{OS: "windows", Arch: "arm64"}, "upx cannot pack windows/arm64"},
		"a script":         {linux("amd64"), "want an ELF executable"},
	} {
		t.Run(name, func(t *testing.T) {
			digest, size, err := build.Digest(text)
			if err != nil {
				t.Fatal(err)
			}
			b := build.Binary{Platform: tt.platform, Path: text, Digest: digest, SizeBytes: size}
			r, err := Pack(t.Context(), b, Options{UPX: "/nonexistent/upx"})
			if err != nil || r.Packed || !strings.Contains(r.Reason, tt.reason) {
				t.Errorf("got %+v, %v, want %q", r, err, tt.reason)
			}
		})
	}
}

func TestPackErrors(t *testing.T) {
	b := compile(t, "tiny", linux("amd64"))
	t.Run("upx is missing", func(t *testing.T) {
		t.Setenv("PATH", "/nonexistent")
		r, err := Pack(t.Context(), b, Options{})
		if err != nil || r.Packed || !strings.Contains(r.Reason, "upx-ucl") {
			t.Errorf("got %+v, %v", r, err)
		}
		var missing *MissingToolError
		if _, err = Pack(t.Context(), b, Options{Required: true}); !errors.As(err, &missing) || missing.Hint() == "" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the binary is another one", func(t *testing.T) {
		other := b
		other.Digest = "sha256:00"
		var changed *ChangedError
		if _, err := Pack(t.Context(), other, Options{}); !errors.As(err, &changed) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the binary is gone", func(t *testing.T) {
		if _, err := Pack(t.Context(), build.Binary{Path: "/nonexistent"}, Options{}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
	for name, o := range map[string]Options{"a level": {Level: "11"}, "a saving": {MinSaving: 20}} {
		t.Run("no such "+name, func(t *testing.T) {
			var option *OptionError
			if _, err := Pack(t.Context(), b, o); !errors.As(err, &option) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestCancelledPack(t *testing.T) {
	testenv.Need(t, "upx")
	b := compile(t, "service", build.Native())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := Pack(ctx, b, Options{Service: shop, Level: "best"})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	onlyFiles(t, b, "svc")
}
