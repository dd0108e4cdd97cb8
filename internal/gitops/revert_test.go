package gitops

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// merged joins sets of files; later ones win.
func merged(sets ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, set := range sets {
		maps.Copy(all, set)
	}
	return all
}

// reverted checks that the path is exactly that of Good at a name, and everything
// else as it was before.
func (s *server) reverted(name, before string, c Change) {
	s.t.Helper()
	const path = "deploy/shop"
	if got, want := s.id(name+":"+path), s.id(c.Good+":"+path); got != want {
		s.t.Errorf("%s has the tree %s at the path, the good commit %s", name, got, want)
	}
	changed := strings.Fields(s.git(s.dir, "diff", "--name-only", before, name))
	for _, file := range changed {
		if !strings.HasPrefix(file, path+"/") {
			s.t.Errorf("%s was changed as well", file)
		}
	}
	if len(changed) == 0 {
		s.t.Error("nothing was changed")
	}
	if said := s.git(s.dir, "fsck", "--full", "--strict", "--no-dangling"); said != "" {
		s.t.Errorf("git fsck: %s", said)
	}
}

// commits counts the reverts on the branch.
func (s *server) commits(name string) int {
	s.t.Helper()
	return strings.Count(s.git(s.dir, "log", "--format=%s", name), "revert: ")
}

func TestRevertRestoresEverythingBelowThePath(t *testing.T) {
	s := serve(t)
	s.commit("begin", map[string]string{"README": "x", "run": "#!/bin/sh\n", "deploy/other/x": "1", "deploy/shop.yaml": "y", "deploy/shop0/z": "z"})
	good := s.commit("1.1.0", merged(image("1.1.0"), map[string]string{
		"deploy/shop/run": "#!/bin/sh\n", "deploy/shop/link": "-> run", "deploy/shop/deep/er/a": "a", "deploy/shop/gone": "was here",
		"deploy/shop/name with blank": "b", "deploy/shop/ünï": "c",
	}))
	bad := s.commit("1.2.0", merged(image("1.2.0"), map[string]string{
		"deploy/shop/run": "no program any more", "deploy/shop/link": "no link any more", "deploy/shop/deep": "no directory any more",
		"deploy/shop/gone": "", "deploy/shop/new": "new", "deploy/shop/sub/new": "new",
	}))
	c := Change{Bad: bad, Good: good, Name: "shop", Version: "1.2.0", Verdict: "fail", Reason: "p99 rose", Time: time.Unix(1700000000, 0)}
	res, err := Revert(t.Context(), s.repo(), c)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Result{Commit: s.id("main"), Branch: "main"}, res); diff != "" {
		t.Error(diff)
	}
	s.reverted("main", bad, c)
	if parent := s.id("main^"); parent != bad {
		t.Errorf("the commit follows %s", parent)
	}
	for _, want := range []string{"100755 blob", "120000 blob"} {
		if !strings.Contains(s.git(s.dir, "ls-tree", "-r", "main:deploy/shop"), want) {
			t.Errorf("there is no %s", want)
		}
	}
	want := fmt.Sprintf(`sluice <sluice@sluice.dev> 1700000000
revert: shop 1.2.0 (fail)

p99 rose

With this commit deploy/shop is again as in
%s, before %s.

Verdict: fail
Reverts: %s
Signed-off-by: sluice <sluice@sluice.dev>

`, good, bad, bad)
	if diff := cmp.Diff(want, s.git(s.dir, "log", "-1", "--format=%an <%ae> %ct%n%B", "main")); diff != "" {
		t.Error(diff)
	}
}

func TestRevertTwiceIsRevertOnce(t *testing.T) {
	s := serve(t)
	c := released(s)
	first, err := Revert(t.Context(), s.repo(), c)
	if err != nil || first.Already {
		t.Fatal(first, err)
	}
	again, err := Revert(t.Context(), s.repo(), c)
	first.Already = true
	if diff := cmp.Diff(first, again); diff != "" || err != nil {
		t.Error(diff, err)
	}
	s.git(s.work, "pull", "-q", "--ff-only", "origin", "main")
	s.commit("docs", map[string]string{"README": "more"})
	again, err = Revert(t.Context(), s.repo(), c)
	if err != nil || !again.Already || again.Commit != s.id("main") {
		t.Error(again, err)
	}
}

func TestRevertWhereTheBranchHasMovedOn(t *testing.T) {
	for name, tt := range map[string]struct {
		commits []map[string]string
		moved   int // which of them is blamed; 0: it is reverted all the same
	}{
		"on another path":              {[]map[string]string{{"README": "more"}, {"deploy/shop-2/y.yaml": "y: 2"}}, 0},
		"the path was changed":         {[]map[string]string{{"deploy/shop/new.yaml": "n"}}, 1},
		"and then something else":      {[]map[string]string{{"README": "1"}, image("1.3.0"), {"README": "2"}, {"README": "3"}}, 2},
		"the path is gone":             {[]map[string]string{{"deploy/shop/kustomization.yaml": ""}}, 1},
		"a file has taken its place":   {[]map[string]string{{"deploy/shop": "a file"}}, 1},
		"changed and changed back":     {[]map[string]string{image("1.3.0"), image("1.2.0")}, 0},
		"somebody went back by a hand": {[]map[string]string{image("1.1.0")}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			c := released(s)
			var ids []string
			for i, files := range tt.commits {
				ids = append(ids, s.commit(fmt.Sprint("commit ", i), files))
			}
			head := s.id("main")
			res, err := Revert(t.Context(), s.repo(), c)
			if tt.moved <= 0 {
				if err != nil || res.Already != (tt.moved < 0) {
					t.Fatal(res, err)
				}
				if !res.Already {
					s.reverted("main", head, c)
				}
				return
			}
			var moved *MovedOnError
			if !errors.As(err, &moved) || moved.Commit != ids[tt.moved-1] || moved.Hint() == "" {
				t.Errorf("got %v, want it to blame %s", err, ids[tt.moved-1])
			}
			if s.id("main") != head {
				t.Error("the branch was changed")
			}
		})
	}
}

// TestRevertWhileOthersPush lets others be faster, once or always.
func TestRevertWhileOthersPush(t *testing.T) {
	for name, tt := range map[string]struct {
		times int
		files map[string]string
		fails bool
	}{
		"once":             {1, map[string]string{"README": "race %d"}, false},
		"three times":      {3, map[string]string{"README": "race %d"}, false},
		"always":           {100, map[string]string{"README": "race %d"}, true},
		"on the same path": {1, map[string]string{"deploy/shop/new": "race %d"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			c := released(s)
			races := 0
			s.on(func(r *http.Request) int {
				if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "git-receive-pack") && races < tt.times {
					races++
					files := map[string]string{}
					for path, text := range tt.files {
						files[path] = fmt.Sprintf(text, races)
					}
					s.commit("race", files)
				}
				return 0
			})
			res, err := Revert(t.Context(), s.repo(), c)
			if (err != nil) != tt.fails {
				t.Fatal(res, err)
			}
			if !tt.fails {
				s.reverted("main", s.id("main^"), c)
				if s.commits("main") != 1 || races != tt.times {
					t.Errorf("%d reverts after %d races", s.commits("main"), races)
				}
			} else if s.commits("main") != 0 {
				t.Error("something was reverted")
			}
			t.Logf("%d races, %v", races, err)
		})
	}
}

func TestRevertFromManyPlacesAtOnce(t *testing.T) {
	for name, constraint := range map[string]string{"a branch": "", "a branch and its tag": "1.*"} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			c := released(s)
			c.Constraint = constraint
			var already, done int
			var mu sync.Mutex
			var all sync.WaitGroup
			for range 6 {
				all.Go(func() {
					res, err := Revert(t.Context(), s.repo(), c)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err != nil:
						t.Error(err)
					case res.Already:
						already++
					default:
						done++
					}
				})
			}
			all.Wait()
			if s.commits("main") != 1 || already+done != 6 || done == 0 {
				t.Errorf("%d reverts; %d say they did it, %d that it was done", s.commits("main"), done, already)
			}
			s.reverted("main", c.Bad, c)
			if tags := strings.Fields(s.git(s.dir, "tag", "-l")); constraint != "" && !cmp.Equal(tags, []string{"v1.1.0", "v1.2.0", "v1.2.1"}) {
				t.Error(tags)
			}
		})
	}
}

func TestRevertWithNothingToGoBackTo(t *testing.T) {
	s := serve(t)
	s.commit("begin", map[string]string{"README": "x", "lib/a": "a"})
	before := s.id("main")
	first := s.commit("shop 1.0.0", image("1.0.0"))
	docs := s.commit("docs", map[string]string{"README": "y"})
	for name, tt := range map[string]struct {
		bad, good, path string
		want            any
	}{
		"its first release":            {first, before, "deploy/shop", new(*FirstReleaseError)},
		"the same in both":             {docs, first, "deploy/shop", new(*UnchangedError)},
		"the same commit":              {first, first, "deploy/shop", new(*UnchangedError)},
		"a path that never was":        {docs, first, "deploy/shopp", new(*FirstReleaseError)},
		"a path that is gone":          {before, first, "deploy/shop", new(*NotFoundError)},
		"a path through a file":        {docs, first, "README/x", new(*FirstReleaseError)},
		"a commit that is not there":   {strings.Repeat("a", 40), first, "deploy/shop", new(*NotFoundError)},
		"a good one that is not there": {docs, strings.Repeat("b", 40), "deploy/shop", new(*NotFoundError)},
	} {
		t.Run(name, func(t *testing.T) {
			repo := s.repo()
			repo.Path = tt.path
			_, err := Revert(t.Context(), repo, Change{Bad: tt.bad, Good: tt.good, Name: "shop", Version: "1.0.0"})
			if !errors.As(err, tt.want) {
				t.Fatalf("got %v, want a %T", err, tt.want)
			}
			var hint interface{ Hint() string }
			if !errors.As(err, &hint) || hint.Hint() == "" {
				t.Errorf("%v has no hint", err)
			}
			if s.id("main") != docs {
				t.Fatal("the branch was changed")
			}
		})
	}
}

func TestRevertOfTheWholeTree(t *testing.T) {
	s := serve(t)
	c := released(s)
	repo := s.repo()
	repo.Path, repo.Branch = ".", ""
	if _, err := Revert(t.Context(), repo, c); err != nil {
		t.Fatal(err)
	}
	if s.id("main^{tree}") != s.id(c.Good+"^{tree}") {
		t.Error("it is not the tree of the good commit")
	}
}

func TestChangesThatAreRefused(t *testing.T) {
	ok := Change{Bad: strings.Repeat("a", 40), Good: strings.Repeat("b", 40), Name: "shop", Version: "1.0.0"}
	repo := Repo{URL: "https://git.example.com/x.git", Path: "a"}
	for name, tt := range map[string]struct {
		change func(*Change, *Repo)
		want   string
	}{
		"an abbreviated commit":       {func(c *Change, _ *Repo) { c.Bad = "abc1234" }, "full hashes"},
		"no commit":                   {func(c *Change, _ *Repo) { c.Good = "" }, "full hashes"},
		"an unknown mode":             {func(c *Change, _ *Repo) { c.Mode = "merge" }, "unknown mode"},
		"no name":                     {func(c *Change, _ *Repo) { c.Name = "" }, "no name"},
		"an author without address":   {func(c *Change, _ *Repo) { c.Author = "ann" }, "want Name <address>"},
		"an author of two lines":      {func(c *Change, _ *Repo) { c.Author = "a <b>\ncommitter c <d>" }, "want Name <address>"},
		"no repository":               {func(_ *Change, r *Repo) { r.URL = "" }, "no URL"},
		"a path out of it":            {func(_ *Change, r *Repo) { r.Path = "../x" }, "leads out"},
		"a protocol nobody should":    {func(_ *Change, r *Repo) { r.URL = "git://git.example.com/x.git" }, "unknown protocol"},
		"an SSH key that is not one":  {func(_ *Change, r *Repo) { r.URL, r.Auth.SSHKey = "ssh://git.example.com/x", []byte("x") }, "SSH key"},
		"server keys that are absent": {func(_ *Change, r *Repo) { r.URL, r.Auth.KnownHosts = "ssh://git.example.com/x", "/none" }, "/none"},
	} {
		t.Run(name, func(t *testing.T) {
			c, r := ok, repo
			tt.change(&c, &r)
			if _, err := Revert(t.Context(), r, c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestRevertInALargeRepository: of a repository with large files next to nothing
// is fetched if the server allows it; if not, there is a limit.
func TestRevertInALargeRepository(t *testing.T) {
	s := serve(t)
	large := make([]byte, 6<<20)
	for i := range large {
		large[i] = byte(i * i >> 7 * (i >> 11))
	}
	s.write(map[string]string{"large": string(large)})
	c := released(s)
	for i := range 60 { // more than the first look goes back
		s.write(map[string]string{"README": fmt.Sprint(i)})
		s.git(s.work, "commit", "-q", "-a", "-m", fmt.Sprint("docs ", i))
	}
	s.git(s.work, "push", "-q", "origin", "HEAD:main")
	repo := s.repo()
	repo.MaxBytes = 64 << 10
	_, err := Revert(t.Context(), repo, c)
	var much *TooLargeError
	if !errors.As(err, &much) || !strings.Contains(much.Hint(), "allowFilter") {
		t.Errorf("without partial clones: %v", err)
	}
	for step, setting := range []string{"uploadpack.allowFilter", "uploadpack.allowReachableSHA1InWant"} {
		s.git(s.dir, "config", setting, "true")
		s.fetched.Store(0)
		change := c
		change.Mode, change.Version = Branch, fmt.Sprint("1.2.", step) // each a branch of its own
		if _, err := Revert(t.Context(), repo, change); err != nil {
			t.Errorf("with %s: %v", setting, err)
		}
		t.Logf("with %s %d bytes were sent", setting, s.fetched.Load())
		if s.fetched.Load() > 100<<10 {
			t.Errorf("with %s %d bytes were sent", setting, s.fetched.Load())
		}
	}
}

func TestRevertInALocalDirectory(t *testing.T) {
	s := serve(t)
	c := released(s)
	repo := s.repo()
	repo.URL = s.dir
	if _, err := Revert(t.Context(), repo, c); err != nil {
		t.Fatal(err)
	}
	s.reverted("main", c.Bad, c)
	repo.URL = filepath.Join(t.TempDir(), "none.git")
	var gone *GoneError
	if _, err := Revert(t.Context(), repo, c); !errors.As(err, &gone) {
		t.Errorf("got %v", err)
	}
}

// TestMain makes the test binary a hook that can be killed.
func TestMain(m *testing.M) {
	if url := os.Getenv("TEST_REVERT_URL"); url != "" {
		repo := Repo{URL: url, Branch: "main", Path: "deploy/shop", Auth: Auth{Username: user, Password: "secret"}}
		c := Change{Bad: os.Getenv("TEST_REVERT_BAD"), Good: os.Getenv("TEST_REVERT_GOOD"), Name: "shop", Version: "1.2.0", Constraint: "1.*"}
		fmt.Println(Revert(context.Background(), repo, c))
		return
	}
	os.Exit(m.Run())
}

// TestRevertKilled kills a process that reverts, at any moment, and lets another
// one finish: there is one revert and one tag.
func TestRevertKilled(t *testing.T) {
	left := map[string]int{}
	for n := range testenv.Chaos(t, testenv.Kill, 12) {
		s := serve(t)
		c := released(s)
		c.Constraint = "1.*"
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "TEST_REVERT_URL="+s.repo().URL, "TEST_REVERT_BAD="+c.Bad, "TEST_REVERT_GOOD="+c.Good)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(n%12*9+n/12) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		left[fmt.Sprintf("%d commits, %d tags", s.commits("main"), strings.Count(s.git(s.dir, "tag", "-l"), "v1.2.1"))]++
		res, err := Revert(t.Context(), s.repo(), c)
		if err != nil || res.Tag != "v1.2.1" || s.commits("main") != 1 || s.id("v1.2.1^{commit}") != s.id("main") {
			t.Fatalf("%+v, %v: %d reverts", res, err, s.commits("main"))
		}
		s.reverted("main", c.Bad, c)
	}
	t.Log("left by the killed: ", left)
}
