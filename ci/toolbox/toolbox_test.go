package toolbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestTheImageIsPinnedByTagAndDigest(t *testing.T) {
	if !regexp.MustCompile(`^golang:1\.[0-9]+\.[0-9]+-[a-z]+@sha256:[0-9a-f]{64}$`).MatchString(Base) {
		t.Error(Base)
	}
}

func TestModulesComeFromWhereTheCallerSays(t *testing.T) {
	for name, tt := range map[string]struct {
		folder bool
		proxy  string
		want   string
	}{
		"nothing was said": {false, "", ""},
		"a proxy":          {false, "http://proxy:3000", "http://proxy:3000"},
		"a folder":         {true, "", "file:///modules,off"},
		"both":             {true, "http://proxy:3000", "file:///modules,http://proxy:3000"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := GoProxy(tt.folder, tt.proxy); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// setup runs the script for eBPF with an apt-get that says what it was asked.
func setup(t *testing.T, have ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range append(have, "apt-get") {
		script := "#!/bin/sh\n"
		if name == "apt-get" {
			script += "echo \"$*\" >>'" + dir + "/asked'\n"
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := strings.ReplaceAll(Setup(BPF), "/usr/include/", dir+"/")
	cmd := exec.Command("/bin/sh", "-euc", script)
	cmd.Env = []string{"PATH=" + dir}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(asked)
}

func TestAnImageThatHasTheToolsNeedsNoNetwork(t *testing.T) {
	if asked := setup(t, "clang-19", "llvm-strip-19", "stdlib.h"); !strings.Contains(asked, "libbpf-dev") || strings.Contains(asked, "clang-19") {
		t.Errorf("asked for %s", asked)
	}
}

func TestTheCompilerIsPinned(t *testing.T) {
	if asked := setup(t); !strings.Contains(asked, "clang-19=1:19.1.7-3~deb12u1 llvm-19=1:19.1.7-3~deb12u1 libbpf-dev libc6-dev") {
		t.Errorf("asked for %s", asked)
	}
}

func TestAPinnedVersionThatIsGoneHasAWayOut(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte("#!/bin/sh\ntest \"$1\" = update\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-euc", strings.ReplaceAll(Setup(BPF), "/usr/include/", dir+"/"))
	cmd.Env = []string{"PATH=" + dir}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "clang-19=1:19.1.7-3~deb12u1") || !strings.Contains(string(out), "--clang") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestJobsUseTheProjectsOwnScript(t *testing.T) {
	if got := Setup(Pack); got != "sh "+Script+" demo" {
		t.Error(got)
	}
	if got := Setup(Compile); got != "" {
		t.Errorf("compiling needs %q", got)
	}
}
