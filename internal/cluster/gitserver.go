package cluster

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	gitUser         = "sluice"
	gitPasswordFile = "git-password"
	largestPush     = 256 << 20 // bytes
)

// A gitServer serves repositories over HTTP, by git's own program for that.
// Reading needs the password, too, and it is looked up for every request: who
// changes the file makes the old one an expired one.
type gitServer struct {
	state
	git  string
	make sync.Mutex // one repository is made at a time
}

func newGitServer(s state) (*gitServer, error) {
	git, err := exec.LookPath("git")
	if err == nil {
		err = os.MkdirAll(s.path("git"), 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("starting the git server: %w", err)
	}
	return &gitServer{state: s, git: git}, nil
}

// GitPassword returns the password of the user of [Info].
func GitPassword(name string) (string, error) {
	s, err := stateOf(name)
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(s.path(gitPasswordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrDown
	} else if err != nil {
		return "", fmt.Errorf("reading the password of the git server: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// SetGitPassword changes it. The one before is refused from then on.
func SetGitPassword(name, password string) error {
	if _, err := GitPassword(name); err != nil {
		return err
	}
	s, err := stateOf(name)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path(gitPasswordFile+".tmp"), []byte(password+"\n"), 0o600); err != nil {
		return fmt.Errorf("changing the password of the git server: %w", err)
	}
	if err := os.Rename(s.path(gitPasswordFile+".tmp"), s.path(gitPasswordFile)); err != nil {
		return fmt.Errorf("changing the password of the git server: %w", err)
	}
	return nil
}

var repositoryPath = regexp.MustCompile(`^/([a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._-]*)*\.git)/`)

func (g *gitServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	want, err := os.ReadFile(g.path(gitPasswordFile))
	user, password, _ := r.BasicAuth()
	if err != nil || user != gitUser || subtle.ConstantTimeCompare([]byte(password), bytes.TrimSpace(want)) != 1 {
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	m := repositoryPath.FindStringSubmatch(r.URL.Path)
	if m == nil || strings.Contains(m[1], "..") {
		http.NotFound(w, r)
		return
	}
	if r.URL.Query().Get("service") == "git-receive-pack" {
		if err := g.ensure(r.Context(), m[1]); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	// The interface has no word for a body of unknown length, which big pushes have.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, largestPush))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	(&cgi.Handler{
		Path: g.git, Args: []string{"http-backend"}, Dir: g.path("git"),
		Env: []string{"GIT_PROJECT_ROOT=" + g.path("git"), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=" + user, "HOME=" + g.path("git"), "GIT_CONFIG_NOSYSTEM=1"},
	}).ServeHTTP(w, r)
}

// ensure makes an empty repository if there is none.
func (g *gitServer) ensure(ctx context.Context, name string) error {
	g.make.Lock()
	defer g.make.Unlock()
	dir := g.path("git", filepath.FromSlash(name))
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, g.git, "init", "--quiet", "--bare", "--initial-branch=main", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("making repository %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
