package cluster

import (
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/internal/testenv"
)

func TestHierarchies(t *testing.T) {
	for name, tt := range map[string]struct {
		mounts, groups string
		want           []hierarchy
	}{
		"version 2 alone": {
			"cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "0::/user.slice\n",
			[]hierarchy{{"", "/sys/fs/cgroup", "/user.slice"}},
		},
		"both": {
			"cgroup /c/cpu cgroup rw,cpu,cpuacct 0 0\ncgroup /c/systemd cgroup rw,name=systemd 0 0\ncgroup2 /c/unified cgroup2 rw 0 0\n",
			"2:cpu,cpuacct:/a\n1:name=systemd:/\n0::/b\n",
			[]hierarchy{{"cpu,cpuacct", "/c/cpu", "/a"}, {"name=systemd", "/c/systemd", "/"}, {"", "/c/unified", "/b"}},
		},
		"one that is not mounted": {"cgroup2 /c cgroup2 rw 0 0\n", "7:pids:/\n0::/\n", []hierarchy{{"", "/c", "/"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, parseHierarchies(tt.mounts, tt.groups)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestGroupsAreOurs(t *testing.T) {
	if got := (hierarchy{"memory", "/c/memory", "/mine"}).group("x"); got != "/c/memory/mine/x" {
		t.Errorf("version 1: %s", got)
	}
	if got := (hierarchy{"", "/c", "/mine"}).group("x"); got != "/c/x" {
		t.Errorf("version 2: %s", got)
	}
	dir := t.TempDir()
	if err := removeGroups(t.Context(), []string{dir}); err == nil {
		t.Error("a folder that is none of ours was to be removed")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}

func TestNamesThatCannotLeaveTheFolder(t *testing.T) {
	for _, name := range []string{"", "..", "a/b", "A", "-a", strings.Repeat("a", 32)} {
		if _, err := stateOf(name); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
	if _, _, err := Status("never-was"); !errors.Is(err, ErrDown) {
		t.Errorf("a cluster that never was: %v", err)
	}
}

func TestACommandNeedsACluster(t *testing.T) {
	info := &Info{Name: "gone", Dir: t.TempDir(), PID: os.Getpid()} // that process is somebody else
	if err := info.Run(t.Context(), exec.Command("true")); !errors.Is(err, ErrDown) {
		t.Errorf("a command was run: %v", err)
	}
	if _, err := info.DialContext(t.Context(), "tcp", "127.0.0.1:1"); !errors.Is(err, ErrDown) {
		t.Errorf("dialled: %v", err)
	}
}

func TestTheFirstThreadIsNotGivenAway(t *testing.T) {
	var all sync.WaitGroup
	for range 200 {
		all.Add(1)
		onOwnThread(func() {
			defer all.Done()
			if unix.Gettid() == os.Getpid() {
				t.Error("this thread would stay where it went for ever")
			}
		})
	}
	all.Wait()
}

func TestWhatFits(t *testing.T) {
	full := &Info{Nodes: []Node{nodeAt(1), nodeAt(2)}, ArgoCD: true, Gateway: "x"}
	for name, tt := range map[string]struct {
		o     Options
		info  *Info
		ended []string
		ok    bool
	}{
		"less than there is":  {Options{Nodes: 1}, full, nil, true},
		"all there is":        {Options{Nodes: 2, ArgoCD: true, Gateway: true}, full, nil, true},
		"one node more":       {Options{Nodes: 3}, full, nil, false},
		"no Argo CD":          {Options{Nodes: 1, ArgoCD: true}, &Info{Nodes: full.Nodes}, nil, false},
		"no gateway":          {Options{Nodes: 1, Gateway: true}, &Info{Nodes: full.Nodes}, nil, false},
		"something has ended": {Options{Nodes: 1}, full, []string{"etcd ended"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := fits(tt.o, tt.info, tt.ended); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestGitServer(t *testing.T) {
	testenv.Need(t, "git")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("GIT_TERMINAL_PROMPT", "0")
	s, err := stateOf("git")
	if err != nil {
		t.Fatal(err)
	}
	if err := SetGitPassword("git", "new"); !errors.Is(err, ErrDown) {
		t.Errorf("the password of a server that is down was changed: %v", err)
	}
	handler, err := newGitServer(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path(gitPasswordFile), []byte("first\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	at := func(password string) string {
		return strings.Replace(server.URL, "http://", "http://"+gitUser+":"+password+"@", 1) + "/team/shop.git"
	}
	work := t.TempDir()
	git := func(args ...string) error {
		cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...)
		cmd.Dir = work
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("git %s: %s", args[0], out)
		}
		return err
	}
	// More than git sends in one piece, of what does not compress.
	if err := os.WriteFile(filepath.Join(work, "big"), noise(3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "big"}, {"commit", "-qm", "big"}, {"push", "-q", at("first"), "main"}, {"ls-remote", at("first")}} {
		if err := git(args...); err != nil {
			t.Fatal(err)
		}
	}
	if err := SetGitPassword("git", "second"); err != nil {
		t.Fatal(err)
	}
	if git("ls-remote", at("first")) == nil {
		t.Error("an expired password may read")
	}
	if git("ls-remote", server.URL+"/team/shop.git") == nil {
		t.Error("nobody may read")
	}
	if err := git("push", "-q", at("second"), "main:other"); err != nil {
		t.Error("the new password may not write")
	}
	if git("ls-remote", strings.Replace(at("second"), "shop", "none", 1)) == nil {
		t.Error("reading made a repository")
	}
	for _, path := range []string{"/../x.git/info/refs", "/a/../../x.git/info/refs", "/x/info/refs"} {
		if repositoryPath.MatchString(path) {
			t.Errorf("%s is taken for a repository", path)
		}
	}
}

// noise is the same every time.
func noise(n int) []byte {
	b, x := make([]byte, n), uint32(1)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}

func TestImagesAreTheSameForTheSameProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(program, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var digests []string
	for range 2 {
		image, err := imageOf(program)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest.String())
	}
	if digests[0] != digests[1] {
		t.Errorf("%v", digests)
	}
	if _, err := imageOf(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("an image of nothing")
	}
}

func TestApplyTellsWhatItCouldNotRead(t *testing.T) {
	if _, err := parse([]string{"a: [b"}); err == nil {
		t.Error("broken YAML was read")
	}
	objects, err := parse([]string{"---\n# nothing\n---\nkind: A\n---\nkind: B\n", "{kind: C}"})
	if err != nil || len(objects) != 3 {
		t.Errorf("%d objects, %v", len(objects), err)
	}
}

func TestMissingProgramsComeWithAdvice(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := needed(Options{ArgoCD: true})
	missing := (*MissingError)(nil)
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "redis-server") || !strings.Contains(missing.Hint(), "setup.sh") {
		t.Errorf("got %v", err)
	}
}
