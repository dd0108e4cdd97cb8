package gitops

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// server is a real git server: git http-backend behind basic authentication, and
// a bare repository.
type server struct {
	*httptest.Server
	t        testing.TB
	dir      string // of the bare repository
	work     string // a clone, for the people who release
	password atomic.Value
	before   atomic.Pointer[func(*http.Request) int] // a status other than 0 is the answer
	fetched  atomic.Int64                            // bytes of packs
}

const user = "sluice"

// serve starts a server with an empty repository.
func serve(t testing.TB) *server {
	t.Helper()
	testenv.Need(t, "git")
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "shop.git"), work: filepath.Join(t.TempDir(), "work")}
	s.password.Store("secret")
	s.git("", "init", "-q", "--bare", "-b", "main", s.dir)
	s.git(s.dir, "config", "http.receivepack", "true")
	s.git("", "clone", "-q", s.dir, s.work)
	s.git(s.work, "checkout", "-q", "-B", "main")
	core := strings.TrimSpace(s.git("", "--exec-path"))
	backend := &cgi.Handler{
		Path: filepath.Join(core, "git-http-backend"), InheritEnv: []string{"PATH"},
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(s.dir), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=" + user}, Stderr: t.Output(),
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before := s.before.Load(); before != nil {
			if status := (*before)(r); status != 0 {
				http.Error(w, "the test says so", status)
				return
			}
		}
		if name, password, _ := r.BasicAuth(); name != user || password != s.password.Load() {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(&counted{ResponseWriter: w, n: &s.fetched}, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// on lets a function see every request first; a status other than 0 is the answer.
func (s *server) on(before func(*http.Request) int) { s.before.Store(&before) }

type counted struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

// repo is how the product sees the server.
func (s *server) repo() Repo {
	return Repo{
		URL: s.URL + "/shop.git", Branch: "main", Path: "deploy/shop",
		Auth: Auth{Username: user, Password: "secret"},
	}
}

// git runs git in dir and returns what it prints.
func (s *server) git(dir string, args ...string) string {
	s.t.Helper()
	return s.run(dir, "", args...)
}

// gitWith runs git in the bare repository with something to read.
func (s *server) gitWith(in string, args ...string) string {
	s.t.Helper()
	return s.run(s.dir, in, args...)
}

func (s *server) run(dir, in string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(in)
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=dev", "GIT_AUTHOR_EMAIL=dev@example.com", "GIT_COMMITTER_NAME=dev",
		"GIT_COMMITTER_EMAIL=dev@example.com", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

// write changes files in the clone: path to content; "" removes, a content that
// begins with "-> " is a symbolic link, one with "#!" a program.
func (s *server) write(files map[string]string) {
	s.t.Helper()
	for name, content := range files {
		path := filepath.Join(s.work, filepath.FromSlash(name))
		err := os.RemoveAll(path)
		target, link := strings.CutPrefix(content, "-> ")
		mode := os.FileMode(0o644)
		if strings.HasPrefix(content, "#!") {
			mode = 0o755
		}
		if err == nil && content != "" {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		switch {
		case err != nil || content == "":
		case link:
			err = os.Symlink(target, path)
		default:
			err = os.WriteFile(path, []byte(content), mode)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// commit writes files, commits, pushes, and returns the commit.
func (s *server) commit(subject string, files map[string]string) string {
	s.t.Helper()
	s.write(files)
	s.git(s.work, "add", "-A")
	s.git(s.work, "commit", "-q", "-m", subject)
	s.git(s.work, "push", "-q", "origin", "HEAD:main")
	return s.id("main")
}

// id is a hash in the bare repository, of any name that git knows.
func (s *server) id(name string) string {
	s.t.Helper()
	return strings.TrimSpace(s.git(s.dir, "rev-parse", "--verify", name))
}

// image is the file whose change is a release.
func image(tag string) map[string]string {
	return map[string]string{"deploy/shop/kustomization.yaml": fmt.Sprintf("images:\n- name: shop\n  newTag: %q\n", tag)}
}

// released fills the repository with two releases.
func released(s *server) Change {
	s.t.Helper()
	s.commit("begin", map[string]string{"README": "a shop", "deploy/other/x.yaml": "x: 1", "deploy/shop-2/y.yaml": "y: 1"})
	good := s.commit("shop 1.1.0", image("1.1.0"))
	s.git(s.work, "tag", "v1.1.0")
	bad := s.commit("shop 1.2.0", image("1.2.0"))
	s.git(s.work, "tag", "-a", "-m", "two", "v1.2.0")
	s.git(s.work, "push", "-q", "origin", "--tags")
	return Change{
		Bad: bad, Good: good, Name: "shop", Version: "1.2.0", Verdict: "fail",
		Reason: "p99 212 ms -> 304 ms", Evidence: "sha256:0123",
	}
}
