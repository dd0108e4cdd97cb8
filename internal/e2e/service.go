package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/cluster"
)

// A service is one that the team of the story runs under Argo CD.
type service struct {
	*lab
	name     string // of the service, its namespace, its Application and its repository
	route    bool   // traffic by an HTTPRoute, else by replicas
	revision string // what the Application follows; "main" if empty
	repo     *repo
	traffic  *traffic
	good     string // version that serves

	installed bool
	spoiled   bool  // by a scenario that did not end as it had to
	unready   error // why it could not be installed
}

// say tells a person what happens to the service.
func (s *service) say(format string, args ...any) {
	s.lab.say("%-5s "+format, append([]any{s.name}, args...)...)
}

// plan of every rollout: short, for there are many; and a gate that takes into
// account that dozens of processes share the processors with the service.
const plan = `  canary:
    steps: [{weight: 25%, min: 2s}, {weight: 50%, min: 2s}]
    warmup: 1s
    deadline: 60s
    block: 1s
  gate: {tolerance: 50%, pass_tolerance: 30%, odds_ratio: 3, beta: 10%}
`

// settings is the sluice.yaml of the service.
func (s *service) settings() []byte {
	text := fmt.Sprintf(`name: %s
build: {main: ./app}
service: {port: 8080, health: /healthz}
deploy:
  target: kubernetes
  kubernetes:
    namespace: %[1]s
    image: %[2]s/%[1]s
    ready: 30s
    resources: {cpu: 20m, memory: 64Mi}
`, s.name, s.info.Registry)
	if s.route {
		text += fmt.Sprintf("    traffic: httproute\n    gateway: infra/web\n    hostnames: [%s.example.com]\n    header: \"x-env: canary\"\n", s.name)
	}
	revision := s.revision
	if revision == "" {
		revision = "main"
	}
	text += fmt.Sprintf("  argocd:\n    repository: %s\n    path: deploy/%s\n    revision: %q\n    secret: git\n", s.url(), s.name, revision)
	return []byte(text + plan)
}

// url is the repository as the cluster knows it.
func (s *service) url() string { return s.info.Git + "/" + s.name + ".git" }

func (s *service) folder() string { return "deploy/" + s.name }

// image is the reference of a version, with its digest.
func (s *service) image(version string) string {
	return fmt.Sprintf("%s/%s:%s@%s", s.info.Registry, s.name, version, s.maker.digests[recipe{name: s.name, version: version}.key()])
}

// host is the name that clients ask the gateway for.
func (s *service) host() string {
	if s.route {
		return s.name + ".example.com"
	}
	return ""
}

// install does what a platform engineer does once: render, commit, apply what
// needs more rights. The first release is then synced by Argo CD.
func (s *service) install(ctx context.Context, version string) error {
	var err error
	if s.repo, err = newRepo(ctx, filepath.Join(s.work, s.name), s.remote(s.name)); err != nil {
		return err
	}
	if err := s.render(ctx); err != nil {
		return err
	}
	if err := s.set(ctx, version); err != nil {
		return err
	}
	revision, err := s.repo.push(ctx, "Release "+version, s.tag(version))
	if err != nil {
		return err
	}
	setup, err := s.built(ctx, "setup")
	if err != nil {
		return err
	}
	if s == s.shop { // the daemons come first: roles of the hooks are in their namespace
		if err := s.probes(ctx); err != nil {
			return err
		}
	}
	if err := cluster.Apply(ctx, s.kube.rest, s.name, setup, s.gitSecrets()); err != nil {
		return err
	}
	s.good, s.installed = version, true
	if err := s.settle(ctx, revision, 3*time.Minute); err != nil {
		s.spoiled = true // the next scenario tries to put it in order
		return fmt.Errorf("installing %s: %w", s.name, err)
	}
	return nil
}

// render writes the manifests with the command of a user.
func (s *service) render(ctx context.Context) error {
	file := filepath.Join(s.repo.dir, "sluice.yaml")
	if err := os.WriteFile(file, s.settings(), 0o644); err != nil {
		return fmt.Errorf("writing the settings of %s: %w", s.name, err)
	}
	_, err := run(ctx, s.repo.dir, s.argo, "render", "-f", file, "-o", s.folder(), "--hook-image", s.hookImage, "--probe-image", s.probeImage,
		"--key", s.maker.publicKey(s.name), "--cgroup", s.cgroup)
	return err
}

// built is what kustomize makes of a folder below that of the service.
func (s *service) built(ctx context.Context, folder string) (string, error) {
	return run(ctx, s.repo.dir, s.kustomize, "build", filepath.Join(s.folder(), folder))
}

// gitSecrets are the credentials for Argo CD, which reads the repository, and for
// the revert commit.
func (s *service) gitSecrets() string {
	login := fmt.Sprintf("{username: %q, password: %q", s.info.GitUser, s.password)
	return fmt.Sprintf("{apiVersion: v1, kind: Secret, metadata: {name: git, namespace: %s}, stringData: %s}}\n---\n"+
		"{apiVersion: v1, kind: Secret, metadata: {name: repo-%[1]s, namespace: argocd, labels: {argocd.argoproj.io/secret-type: repository}}, stringData: %[2]s, type: git, url: %q}}\n",
		s.name, login, s.url())
}

// set changes the image in the work tree, and nothing else.
func (s *service) set(ctx context.Context, version string) error {
	_, err := run(ctx, filepath.Join(s.repo.dir, s.folder()), s.kustomize, "edit", "set", "image", s.name+"="+s.image(version))
	return err
}

// tag is what a release is tagged as, if the Application follows tags.
func (s *service) tag(version string) string {
	if s.revision == "" {
		return ""
	}
	return "v" + version
}

// release commits a version and pushes it, as a developer or a bot does.
func (s *service) release(ctx context.Context, version string, also func() error) (revision string, err error) {
	if _, err := s.repo.pull(ctx); err != nil {
		return "", err
	}
	if err := s.set(ctx, version); err != nil {
		return "", err
	}
	if also != nil {
		if err := also(); err != nil {
			return "", err
		}
	}
	if revision, err = s.repo.push(ctx, "Release "+version, s.tag(version)); err != nil {
		return "", err
	}
	return revision, s.kube.refresh(ctx, s.name)
}

// settle waits until the Application is Synced and Healthy at a revision.
func (s *service) settle(ctx context.Context, revision string, limit time.Duration) error {
	var a application
	asked := time.Now()
	err := poll(ctx, limit, "Synced and Healthy at "+revision[:8], func() (ok bool, err error) {
		if a, err = s.kube.application(ctx, s.name); err != nil {
			return false, err
		}
		if a.Revision != revision && time.Since(asked) > 2*time.Second {
			asked = time.Now()
			return false, s.kube.refresh(ctx, s.name)
		}
		return a.settled(revision), nil
	})
	if err != nil {
		return fmt.Errorf("%w; the Application: %s", err, a)
	}
	return nil
}

// openTraffic starts the clients of the service.
func (s *service) openTraffic(ctx context.Context) error {
	url, args := s.info.Gateway+"/work", []string{}
	if s.route {
		args = append(args, "-host", s.host(), "-header", "canary")
	} else {
		u, err := s.kube.need(ctx, kindService, s.name, s.name)
		if err != nil {
			return err
		}
		url = "http://" + text(u, "spec", "clusterIP") + "/work"
	}
	args = append(args, "-url", url, "-rate", fmt.Sprint(s.rate))
	t, err := startTraffic(ctx, s.info.Run, args...)
	s.traffic = t
	return err
}

// run runs a program for at most a minute and returns what it prints.
func run(ctx context.Context, dir, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return runLong(ctx, dir, program, args...)
}

// runLong runs a program for as long as it takes.
func runLong(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(program), args[0], err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
