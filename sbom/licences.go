package sbom

import (
	"context"
	"fmt"
	"go/build"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/anchore/syft/syft/pkg"
	"golang.org/x/mod/module"
)

// cacheURL begins the URL that Syft notes for a licence from the module cache.
const cacheURL = "file://$GOPATH/pkg/mod/"

// moduleCache returns the directory of Go's module cache, as the go command
// sees it; without a go command, its documented default. It need not exist.
func moduleCache(ctx context.Context) (string, error) {
	if dir := os.Getenv("GOMODCACHE"); dir != "" {
		return dir, nil
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	return askGo(), nil
}

var askGo = sync.OnceValue(func() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "env", "GOMODCACHE").Output()
	if dir := strings.TrimSpace(string(out)); err == nil && dir != "" {
		return dir
	}
	first, _, _ := strings.Cut(build.Default.GOPATH, string(filepath.ListSeparator))
	return filepath.Join(first, "pkg", "mod")
})

// trustedLicences returns those of p's licences that are about exactly the
// module that was built in: found in the directory of this path and version,
// in a cache whose recorded checksum equals the binary's. Texts in NOTICE
// files that are no licence (attributions) are left out.
func trustedLicences(p pkg.Package, cache string) []pkg.License {
	info, ok := p.Metadata.(pkg.GolangBinaryBuildinfoEntry)
	var kept []pkg.License
	for _, l := range p.Licenses.ToSlice() {
		if len(l.URLs) == 0 { // the standard library's, known without a file
			kept = append(kept, l)
			continue
		}
		if !ok || !sameModule(p, info.H1Digest, cache, l.URLs) || attribution(l) {
			continue
		}
		kept = append(kept, l)
	}
	return kept
}

// sameModule tells whether all URLs are inside p's own directory of the cache
// and the cache has downloaded p with the checksum h1.
func sameModule(p pkg.Package, h1, cache string, urls []string) bool {
	dir, err := escaped(p.Name, p.Version, "@")
	if err != nil || h1 == "" {
		return false
	}
	for _, u := range urls {
		if !strings.HasPrefix(u, cacheURL+dir+"/") {
			return false
		}
	}
	file, err := escaped(p.Name, p.Version, "/@v/")
	if err != nil {
		return false
	}
	got, err := os.ReadFile(filepath.Join(cache, "cache", "download", filepath.FromSlash(file)+".ziphash"))
	return err == nil && strings.TrimSpace(string(got)) == h1
}

// escaped joins path and version as the module cache writes them.
func escaped(path, version, sep string) (string, error) {
	p, err := module.EscapePath(path)
	if err != nil {
		return "", fmt.Errorf("module path: %w", err)
	}
	v, err := module.EscapeVersion(version)
	if err != nil {
		return "", fmt.Errorf("module version: %w", err)
	}
	return p + sep + v, nil
}

func attribution(l pkg.License) bool {
	if l.SPDXExpression != "" {
		return false
	}
	for _, u := range l.URLs {
		if !strings.HasPrefix(u[strings.LastIndexByte(u, '/')+1:], "NOTICE") {
			return false
		}
	}
	return true
}
