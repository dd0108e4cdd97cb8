package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// pack makes a Debian package of files that hold their own name.
func pack(t *testing.T, to, name string, files ...string) {
	t.Helper()
	testenv.Need(t, "dpkg-deb")
	root := t.TempDir()
	control := "Package: " + name + "\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody <nobody@example.com>\nDescription: test\n"
	content := map[string]string{"DEBIAN/control": control}
	for _, f := range files {
		content[f] = f
	}
	for f, text := range content {
		path := filepath.Join(root, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("dpkg-deb", "--build", root, filepath.Join(to, name+".deb")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestTheKernelIsTakenOutOfItsPackages(t *testing.T) {
	for name, tt := range map[string]struct {
		packages map[string][]string
		want     string // content of the kernel, or text of the error
	}{
		"in boot":             {map[string][]string{"a": {"boot/vmlinuz-5.10", "lib/modules/5.10/kernel/x.ko"}}, "boot/vmlinuz-5.10"},
		"beside its modules":  {map[string][]string{"a": {"usr/share/doc/x"}, "b": {"usr/lib/modules/7.2/vmlinuz"}}, "usr/lib/modules/7.2/vmlinuz"},
		"in none of them":     {map[string][]string{"a": {"usr/share/doc/x"}}, "0 kernels"},
		"more than one":       {map[string][]string{"a": {"boot/vmlinuz-5.10"}, "b": {"usr/lib/modules/7.2/vmlinuz"}}, "2 kernels"},
		"nothing was fetched": {nil, "0 kernels"},
	} {
		t.Run(name, func(t *testing.T) {
			from, dir := t.TempDir(), t.TempDir()
			for name, files := range tt.packages {
				pack(t, from, name, files...)
			}
			file := filepath.Join(dir, "suite", "1.2-3")
			err := unpack(t.Context(), from, file)
			if strings.HasSuffix(tt.want, "kernels") {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, want an error with %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			img, err := newest(filepath.Dir(file))
			if err != nil || img.file != file {
				t.Fatalf("%+v, %v", img, err)
			}
			if got, err := os.ReadFile(img.file); err != nil || string(got) != tt.want {
				t.Errorf("the kernel is %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestAPackageThatIsBrokenIsNamed(t *testing.T) {
	testenv.Need(t, "dpkg-deb")
	from := t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "linux.deb"), []byte("no package"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unpack(t.Context(), from, filepath.Join(t.TempDir(), "1")); err == nil || !strings.Contains(err.Error(), "linux.deb") {
		t.Errorf("%v, want an error that names the package", err)
	}
}
