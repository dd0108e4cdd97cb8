package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// GatewayAPI installs the standard definitions of the Gateway API: GatewayClass,
// Gateway, HTTPRoute and the rest.
func (p *Plane) GatewayAPI(t testing.TB) {
	t.Helper()
	p.install(t, GatewayAPI)
}

// ArgoCD installs the definitions Application and AppProject.
// Nothing acts on them.
func (p *Plane) ArgoCD(t testing.TB) {
	t.Helper()
	p.install(t, ArgoCD)
}

func (p *Plane) install(t testing.TB, read func(context.Context) ([]string, error)) {
	t.Helper()
	documents, err := read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.Apply(t, "", documents...)
}

// GatewayAPI returns the standard definitions of the Gateway API as YAML, of the
// version that the gateway in tools/cluster/traefik speaks.
func GatewayAPI(ctx context.Context) ([]string, error) {
	return moduleFiles(ctx, "traefik", "sigs.k8s.io/gateway-api", "config/crd/standard/gateway*.yaml")
}

// ArgoCD returns the definitions of Argo CD's resources as YAML, of the version
// in tools/cluster/argocd: Application and AppProject. ApplicationSet is bigger
// than all others together, and nothing here uses it.
func ArgoCD(ctx context.Context) ([]string, error) {
	return moduleFiles(ctx, "argocd", "github.com/argoproj/argo-cd/v2", "manifests/crds/application-crd.yaml", "manifests/crds/appproject-crd.yaml")
}

// moduleFiles reads files of a module that a module in tools/cluster uses.
func moduleFiles(ctx context.Context, user, module string, patterns ...string) ([]string, error) {
	dir, err := moduleDir(user)
	if err != nil {
		return nil, err
	}
	where := func() (string, error) { return goOutput(ctx, dir, "list", "-m", "-f", "{{.Dir}}", module) }
	files, err := where()
	if err == nil && files == "" { // not downloaded yet
		if _, err = goOutput(ctx, dir, "mod", "download", module); err == nil {
			files, err = where()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("looking for %s: %w", module, err)
	}
	var names []string
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(files, pattern))
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("%s has no files %s", module, pattern)
		}
		names = append(names, found...)
	}
	texts := make([]string, len(names))
	for i, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading a file of %s: %w", module, err)
		}
		texts[i] = string(raw)
	}
	return texts, nil
}
