package pipeline

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/sbom"
)

// SBOM writes down what is inside every binary and the probe object.
type SBOM struct {
	Job
	Build  *Build
	Object *Object
	Docs   []Inventory
}

// Inventory is the SBOM of one file, in both formats.
type Inventory struct {
	Of         string `json:"of"` // absolute path of the file
	CycloneDX  string `json:"cyclonedx"`
	SPDX       string `json:"spdx"`
	Components int    `json:"components"`
}

func (*SBOM) String() string { return "sbom" }

// Run describes what changed since the last time.
func (s *SBOM) Run(ctx context.Context) (string, error) {
	key, err := keyOf(s.Build.Binaries, s.Object.Spec, s.Version, sbomTool)
	if err != nil {
		return "", err
	}
	var hit bool
	s.Docs, hit, err = cached(s.Job, "sbom", key, inventoryPaths, func() ([]Inventory, error) { return s.all(ctx) })
	if err != nil {
		return "", err
	}
	least, most := s.Docs[0].Components, 0
	for _, d := range s.Docs[:len(s.Build.Binaries)] {
		least, most = min(least, d.Components), max(most, d.Components)
	}
	count := fmt.Sprint(most)
	if least != most {
		count = fmt.Sprintf("%d–%d", least, most)
	}
	return list(fmt.Sprintf("%d inventories, %s components a binary", len(s.Docs), count), unchangedIf(hit)), nil
}

// sbomTool is part of the cache key: another way of describing is another
// document.
const sbomTool = "syft/1"

func (s *SBOM) all(ctx context.Context) ([]Inventory, error) {
	docs := make([]Inventory, len(s.Build.Binaries)+1)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cores())
	for i, b := range s.Build.Binaries {
		group.Go(func() error {
			d, err := sbom.Binary(ctx, b.Path, s.Config.Name, s.Version)
			if err != nil {
				return fmt.Errorf("%v: %w", b.Platform, err)
			}
			docs[i], err = s.write(b.Platform.Dir(), b.Path, d)
			return err
		})
	}
	group.Go(func() error {
		d, err := s.object(ctx)
		if err != nil {
			return fmt.Errorf("probe object: %w", err)
		}
		docs[len(docs)-1], err = s.write("probe", s.Object.file(), d)
		return err
	})
	return docs, group.Wait()
}

func (s *SBOM) object(ctx context.Context) (*sbom.Documents, error) {
	raw, err := readFile(s.Object.file())
	if err != nil {
		return nil, err
	}
	spec := sbom.ObjectSpec{Name: "probe.bpf.o", Version: s.Version, License: s.Object.Spec.License, Clang: s.Object.Spec.Clang}
	for _, p := range s.Object.Spec.Programs {
		spec.Programs = append(spec.Programs, p.Name)
	}
	return sbom.Object(ctx, raw, spec)
}

func (s *SBOM) write(name, of string, d *sbom.Documents) (Inventory, error) {
	inv := Inventory{
		Of: of, Components: d.Components,
		CycloneDX: s.path("sbom", name+".cdx.json"), SPDX: s.path("sbom", name+".spdx.json"),
	}
	if err := writeFile(inv.CycloneDX, d.CycloneDX); err != nil {
		return inv, err
	}
	return inv, writeFile(inv.SPDX, d.SPDX)
}

// of returns the inventory of a file.
func (s *SBOM) of(path string) (Inventory, bool) {
	for _, d := range s.Docs {
		if filepath.Clean(d.Of) == filepath.Clean(path) {
			return d, true
		}
	}
	return Inventory{}, false
}

func inventoryPaths(docs []Inventory) []string {
	var paths []string
	for _, d := range docs {
		paths = append(paths, d.CycloneDX, d.SPDX)
	}
	return paths
}

func cores() int { return runtime.GOMAXPROCS(0) }
