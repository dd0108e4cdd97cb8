package gitops

import (
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// pushes reports whether a request belongs to a push.
func pushes(r *http.Request) bool {
	return strings.HasSuffix(r.URL.Path, "git-receive-pack") || r.URL.Query().Get("service") == "git-receive-pack"
}

func TestCredentials(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*server, *Repo)
		want   *AuthError // nil: it works
	}{
		"as they should be": {func(*server, *Repo) {}, nil},
		"in the URL": {func(_ *server, r *Repo) {
			r.URL = strings.Replace(r.URL, "://", "://"+user+":secret@", 1)
			r.Auth = Auth{}
		}, nil},
		"none":                       {func(_ *server, r *Repo) { r.Auth = Auth{} }, &AuthError{}},
		"an expired token":           {func(s *server, _ *Repo) { s.password.Store("another") }, &AuthError{Given: true}},
		"it expires before the push": {func(s *server, _ *Repo) { s.on(refuse(http.StatusUnauthorized)) }, &AuthError{Given: true, Write: true}},
		"it may read only":           {func(s *server, _ *Repo) { s.on(refuse(http.StatusForbidden)) }, &AuthError{Given: true, Write: true, Allowed: true}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			c := released(s)
			repo := s.repo()
			tt.change(s, &repo)
			_, err := Revert(t.Context(), repo, c)
			if tt.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var denied *AuthError
			if !errors.As(err, &denied) {
				t.Fatalf("got %v", err)
			}
			tt.want.URL, tt.want.Err = repo.URL, denied.Err
			if denied.Given != tt.want.Given || denied.Write != tt.want.Write || denied.Allowed != tt.want.Allowed || denied.URL != repo.URL {
				t.Errorf("got %+v, want %+v", denied, tt.want)
			}
			if strings.Contains(err.Error(), "secret") || !strings.Contains(denied.Hint(), "token") {
				t.Errorf("%v; %s", err, denied.Hint())
			}
			if s.commits("main") != 0 {
				t.Error("the branch was changed")
			}
		})
	}
}

// refuse answers every push with a status.
func refuse(status int) func(*http.Request) int {
	return func(r *http.Request) int {
		if pushes(r) {
			return status
		}
		return 0
	}
}

func TestServersThatDoNotAnswer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := serve(t)
	c := released(s)
	closed := httptest.NewServer(nil)
	closed.Close()
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer broken.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>no git</html>")) }))
	defer page.Close()
	secure := httptest.NewTLSServer(s.Config.Handler)
	defer secure.Close()
	for name, tt := range map[string]struct {
		url  string
		want any
	}{
		"nobody listens":                {closed.URL + "/shop.git", new(*UnreachableError)},
		"nobody answers":                {"http://" + silent.Addr().String() + "/shop.git", new(*UnreachableError)},
		"a name that does not exist":    {"http://git.invalid/shop.git", new(*UnreachableError)},
		"a gateway in front of nothing": {broken.URL + "/shop.git", new(*UnreachableError)},
		"no git server":                 {page.URL + "/shop.git", new(*GoneError)},
		"another repository":            {s.URL + "/gone.git", new(*GoneError)},
		"a certificate of nobody":       {secure.URL + "/shop.git", new(*UnreachableError)},
		"nobody answers over SSH":       {"ssh://" + silent.Addr().String() + "/shop.git", new(*UnreachableError)},
	} {
		t.Run(name, func(t *testing.T) {
			repo := s.repo()
			repo.URL = tt.url
			if _, gone := tt.want.(**GoneError); !gone { // which takes an answer, however late
				repo.Timeout = time.Second
			}
			repo.Auth.KnownHosts = filepath.Join(t.TempDir(), "known_hosts")
			if err := os.WriteFile(repo.Auth.KnownHosts, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			_, err := Revert(t.Context(), repo, c)
			if err == nil || !errors.As(err, tt.want) || time.Since(begin) > defaultTimeout/2 {
				t.Errorf("after %v: %v, want a %T", time.Since(begin), err, tt.want)
			}
			_, checked := CheckRevision(t.Context(), repo, "main")
			if checked == nil || !errors.As(checked, tt.want) {
				t.Errorf("checking a revision: %v, want a %T", checked, tt.want)
			}
			t.Log(err)
		})
	}
	repo := s.repo()
	repo.URL = secure.URL + "/shop.git"
	repo.Auth.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if _, err := Revert(t.Context(), repo, c); err != nil {
		t.Errorf("with the authority: %v", err)
	}
}

// TestAServerThatIsBackSoon fails a few requests.
func TestAServerThatIsBackSoon(t *testing.T) {
	s := serve(t)
	c := released(s)
	failures := 0
	s.on(func(*http.Request) int {
		if failures < 2 {
			failures++
			return http.StatusServiceUnavailable
		}
		return 0
	})
	if _, err := Revert(t.Context(), s.repo(), c); err != nil || failures != 2 {
		t.Error(failures, err)
	}
}

// TestALostAnswer: the push was taken and nobody was told.
func TestALostAnswer(t *testing.T) {
	s := serve(t)
	c := released(s)
	lost := false
	inner := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !lost && r.Method == http.MethodPost && pushes(r) {
			lost = true
			inner.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		inner.ServeHTTP(w, r)
	})
	res, err := Revert(t.Context(), s.repo(), c)
	if err != nil || !lost || s.commits("main") != 1 || res.Commit != s.id("main") {
		t.Errorf("%+v, %v: %d reverts", res, err, s.commits("main"))
	}
}

// TestAServerThatDiesAtAnyRequest dies before it serves a request, or before
// anybody hears of it. When it is back, one more try leaves one revert and one tag.
func TestAServerThatDiesAtAnyRequest(t *testing.T) {
	for n := range testenv.Chaos(t, testenv.DeadGit, 8) {
		s := serve(t)
		c := released(s)
		c.Constraint = "1.*"
		inner := s.Config.Handler
		var requests atomic.Int64
		var back atomic.Bool
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch number := int(requests.Add(1)); {
			case back.Load() || number <= n/2%6:
				inner.ServeHTTP(w, r)
				return
			case number == n/2%6+1 && n%2 == 1:
				inner.ServeHTTP(httptest.NewRecorder(), r)
			}
			panic(http.ErrAbortHandler)
		})
		repo := s.repo()
		repo.Timeout = 3 * time.Second
		if _, err := Revert(t.Context(), repo, c); err != nil && !errors.As(err, new(*UnreachableError)) {
			t.Errorf("it dies at request %d: %v, want an UnreachableError", n/2%6+1, err)
		}
		back.Store(true)
		res, err := Revert(t.Context(), s.repo(), c)
		if err != nil || res.Tag != "v1.2.1" || s.commits("main") != 1 || s.id("v1.2.1^{commit}") != s.id("main") {
			t.Fatalf("it died at request %d: %+v, %v: %d reverts", n/2%6+1, res, err, s.commits("main"))
		}
	}
}

// protect installs a hook in the repository that refuses to change some refs.
func (s *server) protect(refs string) {
	s.t.Helper()
	hook := "#!/bin/sh\ncase $1 in " + refs + ") echo 'GL-HOOK: protected, open a merge request' >&2; exit 1;; esac\n"
	if err := os.WriteFile(filepath.Join(s.dir, "hooks", "update"), []byte(hook), 0o755); err != nil { //nolint:gosec // a program
		s.t.Fatal(err)
	}
}

func TestAProtectedBranch(t *testing.T) {
	s := serve(t)
	c := released(s)
	s.protect("refs/heads/main")
	_, err := Revert(t.Context(), s.repo(), c)
	var denied *ProtectedError
	if !errors.As(err, &denied) || denied.Ref != "refs/heads/main" || !strings.Contains(denied.Said, "open a merge request") || !strings.Contains(denied.Hint(), "revert: branch") {
		t.Fatalf("got %v", err)
	}
	c.Mode = Branch
	res, err := Revert(t.Context(), s.repo(), c)
	want := Result{Branch: "sluice/revert-shop-1.2.0-" + c.Bad[:8], Commit: res.Commit}
	if diff := cmp.Diff(want, res); diff != "" || err != nil {
		t.Fatal(diff, err)
	}
	s.reverted(res.Branch, c.Bad, c)
	s.git(s.work, "pull", "-q", "--ff-only", "origin", "main")
	_ = os.Remove(filepath.Join(s.dir, "hooks", "update"))
	s.commit("docs", map[string]string{"README": "more"})
	want.Already = true
	again, err := Revert(t.Context(), s.repo(), c)
	if diff := cmp.Diff(want, again); diff != "" || err != nil {
		t.Error(diff, err)
	}
	s.git(s.work, "pull", "-q", "--no-rebase", "--no-edit", "origin", res.Branch) // a person merges it
	s.git(s.work, "push", "-q", "origin", "HEAD:main")
	merged, err := Revert(t.Context(), s.repo(), c)
	if err != nil || !merged.Already || merged.Branch != "main" || merged.Commit != s.id("main") {
		t.Errorf("after the merge: %+v, %v", merged, err)
	}
}

func TestAProtectedTag(t *testing.T) {
	s := serve(t)
	c := released(s)
	c.Constraint = "1.*"
	s.protect("refs/tags/*")
	_, err := Revert(t.Context(), s.repo(), c)
	var denied *ProtectedError
	if !errors.As(err, &denied) || denied.Ref != "refs/tags/v1.2.1" || !strings.Contains(denied.Hint(), "tag") {
		t.Errorf("got %v", err)
	}
	if s.commits("main") != 0 {
		t.Error("the branch was changed alone")
	}
}

// TestAServerThatCannotPushBothAtOnce leaves the branch without its tag; the next
// run adds the tag and no second commit.
func TestAServerThatCannotPushBothAtOnce(t *testing.T) {
	s := serve(t)
	c := released(s)
	c.Constraint = "1.*"
	s.git(s.dir, "config", "receive.advertiseAtomic", "false")
	s.protect("refs/tags/*")
	for range 2 {
		var denied *ProtectedError
		if _, err := Revert(t.Context(), s.repo(), c); !errors.As(err, &denied) || denied.Ref != "refs/tags/v1.2.1" {
			t.Errorf("got %v", err)
		}
		if s.commits("main") != 1 {
			t.Errorf("%d reverts", s.commits("main"))
		}
	}
	s.protect("none")
	res, err := Revert(t.Context(), s.repo(), c)
	if err != nil || res.Already || s.commits("main") != 1 || s.id("v1.2.1") != s.id("main") {
		t.Errorf("%+v, %v: %d reverts", res, err, s.commits("main"))
	}
}

func TestABranchForTheRevertThatIsInUse(t *testing.T) {
	s := serve(t)
	c := released(s)
	c.Mode = Branch
	name := "sluice/revert-shop-1.2.0-" + c.Bad[:8]
	s.git(s.work, "push", "-q", "origin", "HEAD:refs/heads/"+name) // as the bad one
	res, err := Revert(t.Context(), s.repo(), c)
	if err != nil || res.Already {
		t.Fatal(res, err)
	}
	s.reverted(name, c.Bad, c)
	s.commit("1.3.0", image("1.3.0"))
	var moved *MovedOnError
	if _, err := Revert(t.Context(), s.repo(), c); !errors.As(err, &moved) {
		t.Errorf("after the next release: %v", err)
	}
}

func TestRevertWhereTagsAreFollowed(t *testing.T) {
	for name, tt := range map[string]struct {
		constraint string
		before     func(*server, Change)
		tag        string
		commits    int // reverts on the branch afterwards
		want       any
	}{
		"the next patch version":           {constraint: "1.*", tag: "v1.2.1", commits: 1},
		"of an exact series":               {constraint: "~1.2.0", tag: "v1.2.1", commits: 1},
		"nothing may follow":               {constraint: "<=1.2.0", want: new(*RevisionError)},
		"no tag satisfies it":              {constraint: "2.*", want: new(*RevisionError)},
		"tags without v":                   {constraint: ">=1.0.0", before: func(s *server, c Change) { s.tag("1.2.5", c.Bad) }, tag: "1.2.6", commits: 1},
		"only the commit was pushed":       {constraint: "1.*", before: revertBranch, tag: "v1.2.1", commits: 1},
		"a newer release is out":           {constraint: "1.*", before: newer, want: new(*MovedOnError)},
		"the branch went on":               {constraint: "1.*", before: func(s *server, _ Change) { s.commit("1.3.0", image("1.3.0")) }, want: new(*MovedOnError)},
		"somebody tagged the good one":     {constraint: "1.*", before: func(s *server, c Change) { s.tag("v1.2.3", c.Good) }, tag: "v1.2.3", commits: 1},
		"a tag of a tag that is no commit": {constraint: "1.*", before: func(s *server, c Change) { s.tag("v1.2.3", c.Bad+":README") }, want: new(error)},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			c := released(s)
			if tt.before != nil {
				tt.before(s, c)
			}
			c.Constraint = tt.constraint
			res, err := Revert(t.Context(), s.repo(), c)
			if tt.want != nil {
				if err == nil || !errors.As(err, tt.want) {
					t.Errorf("got %+v, %v, want a %T", res, err, tt.want)
				}
				if s.commits("main") != 0 {
					t.Error("the branch was changed")
				}
				return
			}
			if err != nil || res.Tag != tt.tag || s.commits("main") != tt.commits {
				t.Fatalf("%+v, %v: %d reverts", res, err, s.commits("main"))
			}
			if got := s.id(tt.tag + "^{commit}:deploy/shop"); got != s.id(c.Good+":deploy/shop") {
				t.Errorf("the tag has the tree %s", got)
			}
			rev, err := CheckRevision(t.Context(), s.repo(), tt.constraint)
			if err != nil || rev.Name != tt.tag {
				t.Errorf("Argo CD would take %+v, %v", rev, err)
			}
			again, err := Revert(t.Context(), s.repo(), c)
			if err != nil || !again.Already || again.Tag != tt.tag {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

func (s *server) tag(name, at string) {
	s.t.Helper()
	s.git(s.dir, "tag", name, at)
}

func revertBranch(s *server, c Change) {
	s.t.Helper()
	if _, err := Revert(s.t.Context(), s.repo(), c); err != nil {
		s.t.Fatal(err)
	}
}

func newer(s *server, _ Change) {
	s.t.Helper()
	s.git(s.work, "checkout", "-q", "-b", "next")
	s.write(image("1.3.0"))
	s.git(s.work, "commit", "-q", "-a", "-m", "1.3.0")
	s.git(s.work, "tag", "v1.3.0")
	s.git(s.work, "push", "-q", "origin", "v1.3.0")
}

// TestTheTagIsTaken: between the look and the push somebody else takes the version.
func TestTheTagIsTaken(t *testing.T) {
	s := serve(t)
	c := released(s)
	c.Constraint = "1.*"
	taken := false
	s.on(func(r *http.Request) int {
		if !taken && r.Method == http.MethodPost && pushes(r) {
			taken = true
			s.tag("v1.2.1", c.Bad)
		}
		return 0
	})
	res, err := Revert(t.Context(), s.repo(), c)
	if err != nil || !taken || res.Tag != "v1.2.2" || s.commits("main") != 1 {
		t.Errorf("%+v, %v: %d reverts", res, err, s.commits("main"))
	}
}

func TestAPinnedTagCannotBeReverted(t *testing.T) {
	s := serve(t)
	c := released(s)
	repo := s.repo()
	repo.Branch = "v1.2.0"
	var pinned *RevisionError
	if _, err := Revert(t.Context(), repo, c); !errors.As(err, &pinned) || !strings.Contains(pinned.Reason, "it is a tag") {
		t.Errorf("got %v", err)
	}
}

func TestNobodysWordsBecomeATrailer(t *testing.T) {
	c := Change{
		Bad: "b", Good: "g", Name: "shop\nx", Version: "1", Verdict: "fail\n\nSigned-off-by: eve <e@x>", Author: defaultAuthor,
		Reason: "p99 rose\n\nSigned-off-by: eve <e@x>\x1b[2J\r\n" + strings.Repeat("ü", 4000), Evidence: "a\nb",
	}
	text := message(c, "")
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, "Signed-off-by: ") && l != "Signed-off-by: "+defaultAuthor+"\n" {
			t.Errorf("a line of eve's: %q", l)
		}
	}
	if len(text) > 3000 || strings.ContainsAny(text, "\x1b\r") || !strings.HasPrefix(text, "revert: shop x 1 (fail Signed") {
		t.Errorf("%d bytes: %.200q", len(text), text)
	}
	if got := message(Change{Name: "shop"}, "a"); !strings.HasPrefix(got, "revert: shop (no verdict)\n\nWith this commit a is") {
		t.Errorf("%q", got)
	}
}
