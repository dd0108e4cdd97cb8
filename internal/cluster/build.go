package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// A tool is a program built from one of the modules in tools/cluster.
type tool struct {
	module string // folder in tools/cluster
	pkg    string // main package
	source string // module whose version the program shows
	flags  string // for the linker; VERSION, MAJOR and MINOR are filled in
	first  string // how long the first build takes on two cores
}

const (
	kubernetesFlags = "-s -w -X k8s.io/component-base/version.gitVersion=vVERSION -X k8s.io/component-base/version.gitMajor=MAJOR " +
		"-X k8s.io/component-base/version.gitMinor=MINOR -X k8s.io/component-base/version.gitTreeState=clean " +
		"-X k8s.io/client-go/pkg/version.gitVersion=vVERSION"
	argoFlags = "-s -w -X github.com/argoproj/argo-cd/v2/common.version=VERSION -X github.com/argoproj/argo-cd/v2/common.gitTreeState=clean " +
		"-X github.com/argoproj/argo-cd/v2/common.buildDate=2025-01-01T00:00:00Z -X github.com/argoproj/argo-cd/v2/common.gitCommit=0"
)

var tools = map[string]tool{
	"etcd":                    {"etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", "-s -w", "half a minute"},
	"kube-apiserver":          {"kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes", kubernetesFlags, "3 minutes"},
	"kube-controller-manager": {"kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", "k8s.io/kubernetes", kubernetesFlags, "1 minute"},
	"kube-scheduler":          {"kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", "k8s.io/kubernetes", kubernetesFlags, "10 seconds"},
	"kubelet":                 {"kubernetes", "k8s.io/kubernetes/cmd/kubelet", "k8s.io/kubernetes", kubernetesFlags, "20 seconds"},
	"kube-proxy":              {"kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", "k8s.io/kubernetes", kubernetesFlags, "10 seconds"},
	"kubectl":                 {"kubernetes", "k8s.io/kubernetes/cmd/kubectl", "k8s.io/kubernetes", kubernetesFlags, "half a minute"},
	"kustomize":               {"kustomize", "sigs.k8s.io/kustomize/kustomize/v5", "sigs.k8s.io/kustomize/kustomize/v5", "-s -w", "10 seconds"},
	"argocd":                  {"argocd", "github.com/argoproj/argo-cd/v2/cmd", "github.com/argoproj/argo-cd/v2", argoFlags, "5 minutes"},
	"fulcio":                  {"sigstore", "github.com/sigstore/fulcio", "github.com/sigstore/fulcio", "-s -w", "2 minutes"},
	"timestamp-server":        {"sigstore", "github.com/sigstore/timestamp-authority/v2/cmd/timestamp-server", "github.com/sigstore/timestamp-authority/v2", "-s -w", "1 minute"},
	"traefik":                 {"traefik", "github.com/traefik/traefik/v3/cmd/traefik", "github.com/traefik/traefik/v3", "-s -w", "7 minutes"},
}

// Binary returns the path of a program, which is built first if it was not
// before: etcd, kubectl, kustomize, argocd, traefik, a kube-… of Kubernetes, or
// fulcio and timestamp-server of Sigstore.
// Builds go into the user's cache folder under a key of everything that decides
// what comes out, and never again. say is told before a build, which takes
// minutes; nil keeps it quiet. Two processes may ask at once.
func Binary(ctx context.Context, name string, say func(string)) (string, error) {
	t, ok := tools[name]
	if !ok {
		return "", fmt.Errorf("unknown program %q", name)
	}
	module, err := moduleDir(t.module)
	if err != nil {
		return "", err
	}
	flags, key, err := t.recipe(ctx, module)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("looking for the cache folder: %w", err)
	}
	path := filepath.Join(cache, "sluice", "cluster", key, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	unlock, err := lock(path)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil // built by somebody else while we waited
	}
	if say != nil {
		say("building " + name + ", about " + t.first + " the first time")
	}
	return path, t.build(ctx, module, flags, path)
}

// recipe returns the linker's flags and the name of the folder in the cache.
func (t tool) recipe(ctx context.Context, module string) (flags, key string, err error) {
	mod, err := os.ReadFile(filepath.Join(module, "go.mod"))
	if err != nil {
		return "", "", fmt.Errorf("reading the module of %s: %w", t.pkg, err)
	}
	sum, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		return "", "", fmt.Errorf("reading the module of %s: %w", t.pkg, err)
	}
	m := regexp.MustCompile(regexp.QuoteMeta(t.source) + ` v(([0-9]+)\.([0-9]+)\.[0-9]+)`).FindSubmatch(mod)
	if m == nil {
		return "", "", fmt.Errorf("%s: go.mod requires no version of %s", module, t.source)
	}
	flags = strings.NewReplacer("VERSION", string(m[1]), "MAJOR", string(m[2]), "MINOR", string(m[3])).Replace(t.flags)
	version, err := goOutput(ctx, module, "env", "GOVERSION", "GOARCH")
	if err != nil {
		return "", "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s", mod, sum, flags, version)
	return flags, fmt.Sprintf("%s-%x", t.module, h.Sum(nil)[:8]), nil
}

// build compiles beside the place where the program belongs and moves it there.
func (t tool) build(ctx context.Context, module, flags, path string) error {
	tmp := path + ".tmp"
	defer os.Remove(tmp)
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	if _, err := goOutput(ctx, module, "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", tmp, t.pkg); err != nil {
		return fmt.Errorf("building %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("keeping %s: %w", filepath.Base(path), err)
	}
	return nil
}

// goOutput runs the go command in a folder, with nothing of the user's settings
// that would change what it builds.
func goOutput(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOOS=linux")
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return "", fmt.Errorf("go %s: %w: %s", args[0], err, strings.TrimSpace(string(exit.Stderr)))
	} else if err != nil {
		return "", fmt.Errorf("go %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// lock waits until nobody else makes what belongs at path, which another process
// may do.
func lock(path string) (unlock func(), err error) { return flock(path, 0) }

// flock is lock, or an error at once with [syscall.LOCK_NB] as how. Whoever has
// the lock may remove its file.
func flock(path string, how int) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the cache folder: %w", err)
	}
	for {
		f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|how); err != nil {
			f.Close()
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		ours, err := f.Stat()
		if err == nil {
			var now os.FileInfo
			if now, err = os.Stat(path + ".lock"); err == nil && os.SameFile(ours, now) {
				return func() { f.Close() }, nil
			}
		}
		f.Close() // it was removed while we waited
	}
}

// root is the folder of the repository that the working directory is in.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for the repository: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "tools", "cluster", "kubernetes", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("looking for tools/cluster: the working directory is not in the repository")
		}
		dir = filepath.Dir(dir)
	}
}

// moduleDir is the folder of a module in tools/cluster.
func moduleDir(name string) (string, error) {
	dir, err := root()
	return filepath.Join(dir, "tools", "cluster", name), err
}
