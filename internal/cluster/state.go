package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Info tells where the parts of a cluster are. The addresses are those of a
// network namespace: see [Info.DialContext] and [Info.Command].
type Info struct {
	Name       string
	Dir        string    // everything of the cluster: logs, data, certificates
	Kubeconfig string    // of an administrator
	Registry   string    // host:port, HTTPS, of images
	RegistryCA string    // PEM file with the authority that its certificate is from
	Git        string    // http://host:port: a repository NAME.git comes to be by the first push to it
	GitUser    string    // who may read and write there
	Gateway    string    `json:",omitempty"` // http://host:port of the gateway infra/web
	ArgoCD     bool      // runs, in namespace argocd
	Nodes      []Node    // Ready
	PID        int       // of the supervisor, as the machine sees it
	Started    time.Time // when Up was called
}

// A Node is a machine as Kubernetes sees it.
type Node struct {
	Name, Address string
	Pods          string // the network of its pods
}

// ErrDown means that there is no cluster of that name.
var ErrDown = errors.New("the cluster is not up")

const (
	groupPrefix = "sluice-cluster-"
	// Host is the address of everything that is not a node: the API, the registry,
	// the git server, the gateway. Every cluster has a network of its own, so they
	// all use the same addresses.
	Host    = "172.30.0.1"
	apiPort = 6443
)

// A state is the folder of a cluster.
type state string

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)

func stateOf(name string) (state, error) {
	if !validName.MatchString(name) {
		return "", fmt.Errorf("cluster name %q: only lower case letters, digits and -, at most 31", name)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("looking for the cache folder: %w", err)
	}
	return state(filepath.Join(cache, "sluice", "cluster", "run", name)), nil
}

func (s state) path(elem ...string) string {
	return filepath.Join(append([]string{string(s)}, elem...)...)
}

func (s state) name() string { return filepath.Base(string(s)) }

func (s state) logs() string { return s.path("logs") }

// save writes a value as JSON, whole or not at all.
func (s state) save(file string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = os.WriteFile(s.path(file+".tmp"), append(raw, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(s.path(file+".tmp"), s.path(file))
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}

func (s state) load(file string, v any) error {
	raw, err := os.ReadFile(s.path(file))
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return fmt.Errorf("reading %s of cluster %s: %w", file, s.name(), err)
	}
	return nil
}

// alive returns whether the process is a member of the cluster's groups, so
// that a number that was given to somebody else meanwhile is not taken for ours.
func (s state) alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && strings.Contains(string(raw), "/"+groupPrefix+s.name())
}

// Status returns what is known of a cluster that is up, and what ended in it
// though it should run. The error is [ErrDown] if there is none.
func Status(name string) (*Info, []string, error) {
	s, err := stateOf(name)
	if err != nil {
		return nil, nil, err
	}
	var info Info
	if err := s.load("info.json", &info); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, ErrDown
	} else if err != nil {
		return nil, nil, err
	}
	if !s.alive(info.PID) {
		return nil, nil, fmt.Errorf("%w: its supervisor was killed", ErrDown)
	}
	raw, err := os.ReadFile(s.path("ended"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("reading the state of cluster %s: %w", name, err)
	}
	var ended []string
	for line := range strings.Lines(string(raw)) {
		ended = append(ended, strings.TrimSuffix(line, "\n"))
	}
	return &info, ended, nil
}
