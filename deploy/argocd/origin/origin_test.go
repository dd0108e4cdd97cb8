package origin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/gitops"
)

func TestFollows(t *testing.T) {
	for target, want := range map[string][2]string{
		"main": {"main", ""}, "refs/heads/main": {"main", ""}, "refs/heads/1.2": {"1.2", ""}, "release/next": {"release/next", ""},
		"1.*": {"", "1.*"}, "~1.2": {"", "~1.2"}, ">=1.0 <2": {"", ">=1.0 <2"},
		"v1.2.0": {"", ""}, "1.2": {"", ""}, "refs/tags/stable": {"", ""}, "HEAD": {"", ""}, "": {"", ""}, strings.Repeat("a", 40): {"", ""},
	} {
		if branch, constraint := Follows(target); branch != want[0] || constraint != want[1] {
			t.Errorf("%q: branch %q, constraint %q, want %q", target, branch, constraint, want)
		}
	}
}

func TestTheApplicationSaysWhereItIs(t *testing.T) {
	file := config.ArgoCD{Repository: "https://git.example.com/file.git", Path: "file", Revision: "next"}
	app := v1alpha1.ApplicationSource{RepoURL: "https://git.example.com/app.git", Path: "app", TargetRevision: "main"}
	for name, tt := range map[string]struct {
		spec v1alpha1.ApplicationSpec
		want gitops.Repo
	}{
		"before the file":  {v1alpha1.ApplicationSpec{Source: &app}, gitops.Repo{URL: app.RepoURL, Path: "app", Branch: "main"}},
		"with more of it":  {v1alpha1.ApplicationSpec{Sources: v1alpha1.ApplicationSources{app, {RepoURL: "other"}}}, gitops.Repo{URL: app.RepoURL, Path: "app", Branch: "main"}},
		"or else the file": {v1alpha1.ApplicationSpec{}, gitops.Repo{URL: file.Repository, Path: "file", Branch: "next"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Repository(Of(&v1alpha1.Application{Spec: tt.spec}), file, "")
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
	var nowhere *NowhereError
	if _, err := Repository(Of(nil), config.ArgoCD{}, ""); !errors.As(err, &nowhere) || nowhere.Hint() == "" {
		t.Errorf("nowhere: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	from := v1alpha1.ApplicationSource{RepoURL: "git@git.example.com:shop.git"}
	if got, err := Repository(from, config.ArgoCD{}, dir); err != nil || !cmp.Equal(got.Auth, gitops.Auth{}) {
		t.Errorf("none at all: %+v, %v", got, err)
	}
	for name, text := range map[string]string{"username": "jane\n", "password": "secret\n", "ssh-privatekey": "key\n", "known_hosts": "host\n", "ca.crt": "ca\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := gitops.Auth{Username: "jane", Password: "secret", SSHKey: []byte("key\n"), KnownHosts: filepath.Join(dir, "known_hosts"), CA: []byte("ca\n")}
	got, err := Repository(from, config.ArgoCD{}, dir)
	if diff := cmp.Diff(want, got.Auth); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if err := os.Remove(filepath.Join(dir, "password")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "password"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Repository(from, config.ArgoCD{}, dir); err == nil {
		t.Error("a password that cannot be read is none")
	}
}
