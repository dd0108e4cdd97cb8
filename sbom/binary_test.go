package sbom

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/anchore/syft/syft"
	"github.com/anchore/syft/syft/cataloging"
	"github.com/anchore/syft/syft/source/filesource"
	"github.com/google/go-cmp/cmp"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/sluice-cd/sluice/internal/testenv"
)

var services = struct {
	dir   string
	mutex sync.Mutex
}{}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sluice-sbom")
	if err != nil {
		panic(err)
	}
	services.dir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// service returns a copy, the test's own, of testdata/service built for a
// platform.
func service(t testing.TB, goos, goarch string) string {
	t.Helper()
	services.mutex.Lock()
	defer services.mutex.Unlock()
	built := filepath.Join(services.dir, goos+"_"+goarch)
	if _, err := os.Stat(built); err != nil {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", built, "./testdata/service")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("building the test service: %v\n%s", err, out)
		}
	}
	path := filepath.Join(t.TempDir(), "service")
	copyFile(t, built, path)
	return path
}

func binary(t testing.TB, path string) *Documents {
	t.Helper()
	docs, err := Binary(context.Background(), path, "shop", "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

func digest(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

func decode(t testing.TB, docs *Documents) (*cyclonedx.BOM, *spdx.Document) {
	t.Helper()
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(docs.CycloneDX), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal("decoding CycloneDX:", err)
	}
	doc, err := spdxjson.Read(bytes.NewReader(docs.SPDX))
	if err != nil {
		t.Fatal("decoding SPDX:", err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error("SPDX document:", err)
	}
	return &bom, doc
}

func TestBinaryFindsTheSameOnEveryPlatform(t *testing.T) {
	for _, platform := range []string{"linux/amd64", "windows/amd64", "darwin/arm64"} {
		t.Run(platform, func(t *testing.T) {
			goos, goarch, _ := strings.Cut(platform, "/")
			docs := binary(t, service(t, goos, goarch))
			bom, doc := decode(t, docs)
			got := map[string]string{}
			for _, c := range *bom.Components {
				got[c.Name] = c.Version
			}
			for _, name := range []string{"github.com/cespare/xxhash/v2", "golang.org/x/mod", "stdlib"} {
				if got[name] == "" || got[name] == "UNKNOWN" {
					t.Errorf("version of %s is %q", name, got[name])
				}
			}
			if v := got["github.com/sluice-cd/sluice"]; v != "v1.2.3" {
				t.Errorf("the main module has version %q, not the release's", v)
			}
			if len(got) != 4 || docs.Components != 4 || len(doc.Packages) != 5 {
				t.Errorf("components: %v, counted %d, SPDX packages %d", got, docs.Components, len(doc.Packages))
			}
			if len(docs.Unlicensed) != 0 {
				t.Errorf("no licence for %v", docs.Unlicensed)
			}
		})
	}
}

func TestBinaryRecordsLicences(t *testing.T) {
	bom, doc := decode(t, binary(t, service(t, "linux", "amd64")))
	got := map[string]string{}
	for _, c := range *bom.Components {
		if c.Licenses != nil {
			got[c.Name] = (*c.Licenses)[0].License.ID
		}
	}
	want := map[string]string{"github.com/cespare/xxhash/v2": "MIT", "golang.org/x/mod": "BSD-3-Clause", "stdlib": "BSD-3-Clause"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error("CycloneDX licences (-want +got):\n" + d)
	}
	for _, p := range doc.Packages {
		if p.PackageName == "golang.org/x/mod" && p.PackageLicenseConcluded != "BSD-3-Clause" {
			t.Errorf("SPDX licence of %s: %s", p.PackageName, p.PackageLicenseConcluded)
		}
	}
}

func TestBinaryIsByteIdentical(t *testing.T) {
	path := service(t, "linux", "amd64")
	want := binary(t, path)
	elsewhere := filepath.Join(t.TempDir(), "deep", "down", "other-name.exe")
	if err := os.MkdirAll(filepath.Dir(elsewhere), 0o755); err != nil {
		t.Fatal(err)
	}
	copyFile(t, path, elsewhere)
	t.Run("in another directory and under another file name", func(t *testing.T) {
		same(t, want, binary(t, elsewhere))
	})
	t.Run("by a relative path", func(t *testing.T) {
		t.Chdir(filepath.Dir(elsewhere))
		same(t, want, binary(t, filepath.Base(elsewhere)))
	})
	t.Run("beside seven others", func(t *testing.T) {
		var wg sync.WaitGroup
		got := make([]*Documents, 8)
		errs := make([]error, 8)
		for i := range got {
			wg.Go(func() { got[i], errs[i] = Binary(context.Background(), path, "shop", "v1.2.3") })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for _, d := range got {
			same(t, want, d)
		}
	})
	t.Run("but not under another version", func(t *testing.T) {
		other, err := Binary(context.Background(), path, "shop", "v1.2.4")
		if err != nil {
			t.Fatal(err)
		}
		a, _ := decode(t, want)
		b, _ := decode(t, other)
		if a.SerialNumber == b.SerialNumber {
			t.Error("two different documents share a serial number")
		}
	})
}

func same(t *testing.T, want, got *Documents) {
	t.Helper()
	if d := cmp.Diff(string(want.CycloneDX), string(got.CycloneDX)); d != "" {
		t.Error("CycloneDX differs:\n" + d)
	}
	if d := cmp.Diff(string(want.SPDX), string(got.SPDX)); d != "" {
		t.Error("SPDX differs:\n" + d)
	}
}

func TestBinaryHoldsNoPathOfTheMachine(t *testing.T) {
	path := service(t, "linux", "amd64")
	docs := binary(t, path)
	cache, err := moduleCache(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range [][]byte{docs.CycloneDX, docs.SPDX} {
		for _, leak := range []string{filepath.Dir(path), cwd, cache, os.TempDir()} {
			if bytes.Contains(d, []byte(leak)) {
				t.Errorf("a document contains %s", leak)
			}
		}
	}
}

func TestBinaryNamesItsSubjectInBothFormats(t *testing.T) {
	path := service(t, "linux", "amd64")
	docs, want := binary(t, path), digest(t, path)
	if got, err := Subject(docs.CycloneDX); err != nil || got != want {
		t.Errorf("Subject = %s, %v; want %s", got, err, want)
	}
	_, doc := decode(t, docs)
	if got := described(doc); got != want {
		t.Errorf("the SPDX document describes %s, want %s", got, want)
	}
}

// described returns the SHA-256 of the package that doc describes.
func described(doc *spdx.Document) string {
	for _, r := range doc.Relationships {
		if r.Relationship != "DESCRIBES" || r.RefA.ElementRefID != "DOCUMENT" {
			continue
		}
		for _, p := range doc.Packages {
			if p.PackageSPDXIdentifier != r.RefB.ElementRefID {
				continue
			}
			for _, c := range p.PackageChecksums {
				if c.Algorithm == spdx.SHA256 {
					return c.Value
				}
			}
		}
	}
	return ""
}

// TestNothingIsLostByOneCataloger holds the quick scan to what all of Syft's
// default catalogers find.
func TestNothingIsLostByOneCataloger(t *testing.T) {
	path := service(t, "linux", "amd64")
	ctx, err := withLicenceScanner(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	src, err := filesource.NewFromPath(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	// The RPM cataloger needs a database driver that is not linked in.
	all, err := syft.CreateSBOM(ctx, src, syft.DefaultCreateSBOMConfig().
		WithCatalogerSelection(cataloging.NewSelectionRequest().WithRemovals("rpm-db-cataloger")))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for p := range all.Artifacts.Packages.Enumerate() {
		want[p.Name] = true
	}
	bom, _ := decode(t, binary(t, path))
	got := map[string]bool{}
	for _, c := range *bom.Components {
		got[c.Name] = true
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error("all catalogers and ours (-all +ours):\n" + d)
	}
}

func TestBinaryRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	elf, err := os.ReadFile(service(t, "linux", "amd64"))
	if err != nil {
		t.Fatal(err)
	}
	packed := append([]byte("\x7fELF"), make([]byte, 200)...)
	packed = append(packed, "UPX!"...)
	pe := append([]byte("MZ"), make([]byte, 400)...)
	pe = append(pe, "UPX0\x00\x00\x00\x00"...)
	for name, tt := range map[string]struct {
		path string
		want string
	}{
		"a file that is not there":         {filepath.Join(dir, "absent"), "no such file"},
		"a directory":                      {dir, "is a directory"},
		"an empty file":                    {write("empty", nil), "no components found"},
		"a shell script":                   {write("script", []byte("#!/bin/sh\necho hello\n")), "no components found"},
		"a truncated binary":               {write("cut", elf[:4096]), "no components found"},
		"an ELF file packed with UPX":      {write("elf", packed), "packed with UPX"},
		"a Windows program packed by UPX":  {write("pe", pe), "packed with UPX"},
		"an archive that holds Go sources": {write("archive.tar", []byte("go.mod")), "no components found"},
	} {
		t.Run(name, func(t *testing.T) {
			docs, err := Binary(context.Background(), tt.path, "shop", "v1.2.3")
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.path) {
				t.Errorf("got %v, %v; want an error with the path and %q", docs, err, tt.want)
			}
		})
	}
	t.Run("a version that is not given", func(t *testing.T) {
		if _, err := Binary(context.Background(), write("x", elf), "shop", ""); err == nil {
			t.Error("accepted")
		}
	})
	t.Run("to work after it was cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := Binary(ctx, write("x", elf), "shop", "v1"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
}

func TestBinaryMayHoldUPXMarksAsData(t *testing.T) {
	path := service(t, "linux", "amd64")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("UPX!"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	binary(t, path)
}

func TestBinaryRefusesWhatUPXReallyPacked(t *testing.T) {
	testenv.Need(t, "upx")
	path := service(t, "linux", "amd64")
	for _, level := range []string{"-1", "--lzma"} {
		packed := path + level
		if out, err := exec.Command("upx", "-q", level, "-o", packed, path).CombinedOutput(); err != nil {
			t.Fatalf("upx: %v\n%s", err, out)
		}
		_, err := Binary(context.Background(), packed, "shop", "v1.2.3")
		var none *NoComponentsError
		if !errors.As(err, &none) || !none.Packed || !strings.Contains(none.Hint(), "before") {
			t.Errorf("upx %s: got %v, want a NoComponentsError that says packed", level, err)
		}
	}
}

func TestToolVersionIsTheOneInGoMod(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`github.com/anchore/syft v(\S+)`).FindSubmatch(mod)
	if m == nil || string(m[1]) != toolVersion {
		t.Errorf("go.mod has Syft %s, the documents say %s", m, toolVersion)
	}
}

func BenchmarkBinary(b *testing.B) {
	path := service(b, "linux", "amd64")
	binary(b, path) // the licence texts are compiled once per process
	for b.Loop() {
		binary(b, path)
	}
}
