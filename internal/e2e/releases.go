package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/image"
)

// A recipe is one version of a service.
type recipe struct {
	name    string // of the service; a release is signed under it
	version string
	env     map[string]string // knobs of the service, on top of the usual ones
	args    []string
	foreign bool // signed by somebody else
	bare    bool // published without signature, SBOM and provenance
}

// knobs are those of a healthy version. It goes on serving for a while after it
// was asked to leave, so that the Service can stop to send it connections.
func knobs() map[string]string {
	return map[string]string{"SHOP_LATENCY": "5ms", "SHOP_LAME_DUCK": "4s"}
}

// The faults of a release.
var (
	slow    = map[string]string{"SHOP_EXTRA_LATENCY": "15ms"}
	failing = map[string]string{"SHOP_ERROR_RATIO": "0.1"}
)

// recipes are all versions that scenarios ship. Each ships its own, because a
// verdict is never asked for twice.
func recipes() (list []recipe) {
	list = []recipe{
		{name: "shop", version: "1.2.0", env: slow},
		{name: "shop", version: "1.3.0", env: failing},
		{name: "shop", version: "1.4.0", bare: true},
		{name: "shop", version: "1.4.1", foreign: true},
		{name: "shop", version: "1.9.0", env: slow},
		{name: "web", version: "1.9.1", args: []string{"-listen", "nowhere"}},
		{name: "web", version: "1.2.0", env: slow},
		{name: "tags", version: "1.1.0", env: slow},
	}
	for name, versions := range map[string]string{
		"shop": "1.0.0 1.1.0 1.5.0 1.5.1 1.5.3 1.6.1 1.7.0 1.7.1 1.7.2 1.8.0",
		"web":  "1.0.0 1.1.0 1.3.0 1.6.0",
		"tags": "1.0.0 1.2.0",
	} {
		for v := range strings.FieldsSeq(versions) {
			list = append(list, recipe{name: name, version: v})
		}
	}
	slices.SortFunc(list, func(a, b recipe) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.version, b.version)) })
	return list
}

// key names a version of a service.
func (r recipe) key() string { return r.name + " " + r.version }

// maker makes images of the sample service with the sluice command, as the
// pipeline of a team would, and publishes them in the cluster's registry.
type maker struct {
	sluice string // the command
	root   string // of the repository
	out    string // where releases are kept, also for the next time
	say    func(string, ...any)

	digests map[string]string // by key of a recipe
}

// dir is where the releases of a service by one signer are.
func (m *maker) dir(b recipe) string {
	if b.foreign {
		return filepath.Join(m.out, "foreign", b.name)
	}
	return filepath.Join(m.out, "ours", b.name)
}

// publicKey is the key that the cluster trusts for a service.
func (m *maker) publicKey(name string) string {
	return filepath.Join(m.dir(recipe{name: name}), "keys", "cosign.pub")
}

// make makes all releases. Those of a service share a folder and its locks, so
// they are made one after the other. What was made before is checked and used
// again.
func (m *maker) make(ctx context.Context, list []recipe) error {
	from, err := m.from(ctx)
	if err != nil {
		return err
	}
	folders := map[string][]recipe{}
	for _, b := range list {
		folders[m.dir(b)] = append(folders[m.dir(b)], b)
	}
	var mu sync.Mutex
	m.digests = map[string]string{}
	group, ctx := errgroup.WithContext(ctx)
	for _, list := range folders {
		group.Go(func() error {
			for _, b := range list {
				digest, err := m.one(ctx, b, from)
				if err != nil {
					return err
				}
				mu.Lock()
				m.digests[b.key()] = digest
				mu.Unlock()
			}
			return nil
		})
	}
	return group.Wait()
}

// from names everything that a release is made from, but for its recipe: the
// sources and the command. Releases made from the same need not be made again.
func (m *maker) from(ctx context.Context) (string, error) {
	inputs, err := build.Inputs(ctx, build.Options{
		Dir: m.root, Main: "./app", Version: "v0", Tags: []string{"grpcnotrace"}, Platforms: []build.Platform{{OS: "linux", Arch: "amd64"}},
	})
	if err != nil {
		return "", err
	}
	command, _, err := build.Digest(m.sluice)
	if err != nil {
		return "", fmt.Errorf("looking at the command: %w", err)
	}
	return inputs + " " + command, nil
}

// one makes a release and returns the digest of its image.
func (m *maker) one(ctx context.Context, r recipe, from string) (digest string, err error) {
	dir := m.dir(r)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the folder of releases: %w", err)
	}
	file, text := filepath.Join(dir, "build-"+r.version+".yaml"), append(m.settings(r), "# from "+from+"\n"...)
	layout, err := image.OpenLayout(filepath.Join(dir, "oci"))
	if err != nil {
		return "", err
	}
	if before, err := os.ReadFile(file); err == nil && bytes.Equal(before, text) {
		if digest, err := layout.Resolve(r.version); err == nil {
			return digest, nil
		}
	}
	if err := os.WriteFile(file+".tmp", text, 0o644); err != nil {
		return "", fmt.Errorf("writing the recipe of a release: %w", err)
	}
	cmd := exec.CommandContext(ctx, m.sluice, "publish", "-f", file+".tmp", "--out", dir, "--version", r.version)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("making release %s: %w:\n%s", r.key(), err, out.String())
	}
	if err := os.Rename(file+".tmp", file); err != nil {
		return "", fmt.Errorf("keeping the recipe of a release: %w", err)
	}
	return layout.Resolve(r.version)
}

// settings is the sluice.yaml by which one version is made.
func (m *maker) settings(b recipe) []byte {
	env := knobs()
	for k, v := range b.env {
		env[k] = v
	}
	text := fmt.Sprintf("name: %s\nbuild: {main: %q, dir: %q, platforms: [linux/amd64], tags: [grpcnotrace]}\npack: {upx: \"off\"}\n"+
		"service: {port: 8080, health: /readyz, args: [%s], env: {%s}}\ndeploy: {local: {listen: \"127.0.0.1:8080\"}}\n",
		b.name, filepath.Join(m.root, "app"), m.root, quoted(b.args), pairs(env))
	return []byte(text)
}

// publish sends all releases to a registry: the signed ones with what proves
// them, the bare ones alone.
func (m *maker) publish(ctx context.Context, list []recipe, registry string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for _, b := range list {
		group.Go(func() error {
			repository := registry + "/" + b.name
			layout, err := image.OpenLayout(filepath.Join(m.dir(b), "oci"))
			if err != nil {
				return err
			}
			if b.bare {
				return pushBare(ctx, layout, b.version, repository)
			}
			_, err = image.Push(ctx, layout, b.version, repository+":"+b.version, image.PushOptions{Insecure: true})
			return err
		})
	}
	return group.Wait()
}

// pushBare publishes an image and nothing that refers to it.
func pushBare(ctx context.Context, layout *image.Layout, version, repository string) error {
	index, err := layout.Image(version)
	if err != nil {
		return err
	}
	ref, err := name.NewTag(repository+":"+version, name.Insecure)
	if err != nil {
		return fmt.Errorf("publishing without signature: %w", err)
	}
	if err := remote.WriteIndex(ref, index, remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("publishing without signature: %w", err)
	}
	return nil
}

func quoted(list []string) string {
	var out []string
	for _, s := range list {
		out = append(out, fmt.Sprintf("%q", s))
	}
	return strings.Join(out, ", ")
}
