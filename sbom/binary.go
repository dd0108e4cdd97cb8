package sbom

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/anchore/syft/syft"
	"github.com/anchore/syft/syft/cataloging"
	"github.com/anchore/syft/syft/cataloging/filecataloging"
	"github.com/anchore/syft/syft/cataloging/pkgcataloging"
	"github.com/anchore/syft/syft/pkg/cataloger/golang"
	syftsbom "github.com/anchore/syft/syft/sbom"
	"github.com/anchore/syft/syft/source"
	"github.com/anchore/syft/syft/source/filesource"
)

const (
	toolName = "syft"
	// toolVersion goes into the documents. A test holds it to go.mod.
	toolVersion = "1.52.0"
	cataloger   = "go-module-binary-cataloger"
)

// Binary returns the SBOM of the Go binary at path (ELF, Mach-O or PE, any
// architecture). The documents call it name and version, which also replaces
// the version of its main module: Go knows no version for a build from a
// working directory. Calls may run in parallel; the first one of a process
// costs 0.7 CPU seconds more, to compile the licence texts.
//
// A file in which no Go module is found, or that is packed with UPX, is a
// *NoComponentsError.
func Binary(ctx context.Context, path, name, version string) (*Documents, error) {
	if name == "" || version == "" {
		return nil, fmt.Errorf("SBOM of %s: name and version are required", path)
	}
	packed, err := packedWithUPX(path)
	if err != nil {
		return nil, fmt.Errorf("SBOM of %s: %w", path, err)
	}
	if packed {
		return nil, &NoComponentsError{Path: path, Packed: true}
	}
	found, err := scan(ctx, path, name, version)
	if err != nil {
		return nil, fmt.Errorf("SBOM of %s: %w", path, err)
	}
	if found.Artifacts.Packages.PackageCount() == 0 {
		return nil, &NoComponentsError{Path: path}
	}
	cache, err := moduleCache(ctx)
	if err != nil {
		return nil, fmt.Errorf("SBOM of %s: %w", path, err)
	}
	inventory, unlicensed, err := settle(found, name, version, cache)
	if err != nil {
		return nil, fmt.Errorf("SBOM of %s: %w", path, err)
	}
	docs, err := encode(inventory)
	if err != nil {
		return nil, fmt.Errorf("SBOM of %s: %w", path, err)
	}
	docs.Unlicensed = unlicensed
	return docs, nil
}

// scan runs Syft's Go cataloger over one file. For a static Go binary the
// other default catalogers find nothing more, except a file entry with the
// absolute path in it (compared in the tests).
func scan(ctx context.Context, path, name, version string) (*syftsbom.SBOM, error) {
	ctx, err := withLicenceScanner(ctx)
	if err != nil {
		return nil, err
	}
	cache, err := moduleCache(ctx)
	if err != nil {
		return nil, err
	}
	src, err := filesource.New(filesource.Config{
		Path:               path,
		Alias:              source.Alias{Name: name, Version: version},
		DigestAlgorithms:   []crypto.Hash{crypto.SHA1, crypto.SHA256}, // SPDX demands SHA-1 of files
		SkipExtractArchive: true,
	})
	if err != nil {
		return nil, err
	}
	defer src.Close()
	found, err := syft.CreateSBOM(ctx, src, scanConfig(cache))
	if err != nil {
		return nil, err
	}
	return found, ctx.Err()
}

func scanConfig(cache string) *syft.CreateSBOMConfig {
	packages := pkgcataloging.DefaultConfig()
	packages.Golang = golang.CatalogerConfig{
		SearchLocalModCacheLicenses: true,
		LocalModCacheDir:            cache,
		CaptureSymbols:              cataloging.SymbolScopeNone,
	}
	files := filecataloging.DefaultConfig()
	files.Selection = "none"
	return syft.DefaultCreateSBOMConfig().
		WithTool(toolName, toolVersion).
		WithPackagesConfig(packages).
		WithFilesConfig(files).
		WithCatalogerSelection(cataloging.NewSelectionRequest().WithDefaults(cataloger)).
		WithParallelism(1) // serial inside one binary; callers run several at once
}

// licenceScanner compiles the licence texts once per process, which is most of
// what Syft spends on a binary.
var licenceScanner = sync.OnceValues(func() (context.Context, error) {
	return syft.SetContextLicenseScanner(context.Background(), cataloging.DefaultLicenseConfig())
})

func withLicenceScanner(ctx context.Context) (context.Context, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	values, err := licenceScanner()
	if err != nil {
		return nil, err
	}
	return withValues{Context: ctx, values: values}, nil
}

// withValues is a context that also has the values of another one. Syft hands
// its licence scanner on only in a context that it makes itself.
type withValues struct {
	context.Context
	values context.Context
}

func (c withValues) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// packedWithUPX looks for UPX's mark where UPX puts it: right behind the
// headers. Further in, a binary may well hold the same bytes as data.
func packedWithUPX(path string) (bool, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, 1024)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return false, err
	}
	return bytes.Contains(head[:n], []byte("UPX!")) || bytes.Contains(head[:n], []byte("UPX0\x00")), nil
}
