package sbom

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchore/syft/syft/pkg"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const xxhash = "github.com/cespare/xxhash/v2"

// cacheWith copies the licence and checksum of one module into a module cache
// of the test's own and returns its directory.
func cacheWith(t *testing.T, path, version string) string {
	t.Helper()
	from, err := moduleCache(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	sum := filepath.Join("cache", "download", filepath.FromSlash(path), "@v", version+".ziphash")
	module := filepath.FromSlash(path) + "@" + version
	for _, f := range []string{sum, filepath.Join(module, "LICENSE.txt")} {
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(f)), 0o755); err != nil {
			t.Fatal(err)
		}
		copyFile(t, filepath.Join(from, f), filepath.Join(to, f))
	}
	return to
}

func TestLicencesComeOnlyFromTheExactModule(t *testing.T) {
	path := service(t, "linux", "amd64")
	bom, _ := decode(t, binary(t, path))
	version := map[string]string{}
	for _, c := range *bom.Components {
		version[c.Name] = c.Version
	}
	both := []string{xxhash + "@" + version[xxhash], "golang.org/x/mod@" + version["golang.org/x/mod"]}
	overwrite := func(t *testing.T, cache, name, content string) {
		t.Helper()
		err := filepath.WalkDir(cache, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(p) != name {
				return err
			}
			return os.WriteFile(p, []byte(content), 0o755)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		change func(t *testing.T, cache string)
		want   []string
	}{
		"a module in the cache has its licence":                    {func(*testing.T, string) {}, both[1:]},
		"another checksum than the binary's is another module":     {func(t *testing.T, c string) { overwrite(t, c, ".ziphash", "h1:AAAA\n") }, both},
		"a directory without a checksum proves nothing":            {func(t *testing.T, c string) { os.RemoveAll(filepath.Join(c, "cache")) }, both},
		"an empty cache leaves the licences out and says so":       {func(t *testing.T, c string) { os.RemoveAll(filepath.Join(c, "github.com")) }, both},
		"a cache that is not there is like an empty one":           {func(t *testing.T, c string) { os.RemoveAll(c) }, both},
		"a licence text nobody knows still counts as one to judge": {func(t *testing.T, c string) { overwrite(t, c, ".txt", "You may, perhaps.") }, both[1:]},
	} {
		t.Run(name, func(t *testing.T) {
			cache := cacheWith(t, xxhash, version[xxhash])
			tt.change(t, cache)
			t.Setenv("GOMODCACHE", cache)
			docs := binary(t, path)
			if d := cmp.Diff(tt.want, docs.Unlicensed); d != "" {
				t.Error("modules without a licence (-want +got):\n" + d)
			}
			if docs.Components != 4 {
				t.Errorf("%d components, want 4: licences must not change what is listed", docs.Components)
			}
		})
	}
}

func TestTrustedLicences(t *testing.T) {
	cache := t.TempDir()
	sum := filepath.Join(cache, "cache", "download", "example.com", "!a", "@v", "v1.0.0.ziphash")
	if err := os.MkdirAll(filepath.Dir(sum), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sum, []byte("h1:good="), 0o644); err != nil {
		t.Fatal(err)
	}
	at := func(spdx, url string) pkg.License {
		return pkg.License{SPDXExpression: spdx, Value: spdx + url, URLs: []string{url}}
	}
	own := cacheURL + "example.com/!a@v1.0.0/"
	known := pkg.License{SPDXExpression: "BSD-3-Clause", Value: "BSD-3-Clause"}
	for name, tt := range map[string]struct {
		h1   string
		in   pkg.License
		kept bool
	}{
		"a licence in the module's own directory stays":           {"h1:good=", at("MIT", own+"LICENSE"), true},
		"an unknown text named LICENSE stays":                     {"h1:good=", at("", own+"LICENSE"), true},
		"an attribution is no licence":                            {"h1:good=", at("", own+"sub/NOTICE.txt"), false},
		"a NOTICE that is a known licence stays":                  {"h1:good=", at("Apache-2.0", own+"NOTICE"), true},
		"another checksum is another module":                      {"h1:evil=", at("MIT", own+"LICENSE"), false},
		"no checksum in the binary (replaced by a directory)":     {"", at("MIT", own+"LICENSE"), false},
		"the licence of the module that was replaced":             {"h1:good=", at("MIT", cacheURL+"example.com/b@v1.0.0/LICENSE"), false},
		"a licence known without a file (the standard library's)": {"", known, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := pkg.Package{
				Name: "example.com/A", Version: "v1.0.0", Licenses: pkg.NewLicenseSet(tt.in),
				Metadata: pkg.GolangBinaryBuildinfoEntry{H1Digest: tt.h1},
			}
			var want []pkg.License
			if tt.kept {
				want = []pkg.License{tt.in}
			}
			if d := cmp.Diff(want, trustedLicences(p, cache), cmpopts.IgnoreFields(pkg.License{}, "Locations")); d != "" {
				t.Error("(-want +got):\n" + d)
			}
		})
	}
}
