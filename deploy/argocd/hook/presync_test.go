package hook

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/gitops"
	"github.com/sluice-cd/sluice/internal/release"
)

// TestAGitThatWantsALogIn: without credentials the revision is Argo CD's business
// alone; with some that do not hold, nothing could be reverted later.
func TestAGitThatWantsALogIn(t *testing.T) {
	w := newYard(t, "")
	closed := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		rw.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(closed.Close)
	w.gitAt(closed.URL + "/shop.git")
	var log bytes.Buffer
	if v, err := Run(t.Context(), "presync", w.s, w.cfg, &log); err != nil || !strings.Contains(log.String(), `targetRevision "main" was not checked: `) || !strings.Contains(log.String(), "wants a log-in, and there are no credentials") {
		t.Errorf("without credentials: %s, %v\n%s", v.Sentence(), err, log.String())
	}
	w.s.Git = t.TempDir()
	write(t, filepath.Join(w.s.Git, "username"), "robot")
	write(t, filepath.Join(w.s.Git, "password"), "expired\n")
	v, err := Run(t.Context(), "presync", w.s, w.cfg, &log)
	var auth *gitops.AuthError
	if !errors.As(err, &auth) || !auth.Given || !strings.Contains(v.Reason, "the token is wrong, expired or revoked") || !strings.Contains(v.Hint, "deploy.argocd.secret") {
		t.Errorf("with old ones: %s, %v", v.Sentence(), err)
	}
	w.said("error", "does not accept the credentials")
}

func TestAnImageThatWasNeverPublishedIsTheReleasesFault(t *testing.T) {
	w := newYard(t, "")
	w.s.Image = repo + "4.0.4@sha256:" + strings.Repeat("4", 64)
	v := w.want("presync", 1)
	if v.Verdict != "fail" || !strings.Contains(v.Reason, "the registry has no "+w.s.Image) || !strings.Contains(v.Hint, "publish it first") {
		t.Error(v.Sentence())
	}
	if r := w.last(); r.Outcome != release.Refused || r.Version != "4.0.4" {
		t.Errorf("recorded as %+v", r)
	}
	w.want("syncfail", 0)
	if subject, _ := w.head(); subject != "revert: shop 4.0.4 (fail)" {
		t.Errorf("git: %q", subject)
	}
}

func TestRulesThatAreNotInThePodSayNothingOfTheRelease(t *testing.T) {
	w := newYard(t, "")
	w.s.Config.Policy.Dirs = []string{filepath.Join(t.TempDir(), "rules")}
	w.want("presync", exitUsage)
	w.said("error", "the rules in policy.dirs are not in this pod: ")
	if len(w.records()) != 0 {
		t.Errorf("recorded %+v", w.records())
	}
}

func TestAHookThatThereIsNotIsRefused(t *testing.T) {
	w := newYard(t, "")
	w.want("midsync", exitUsage)
	w.said("error", `unknown hook "midsync" (known: presync, sync, postsync, syncfail)`)
}
