package sbom

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anchore/packageurl-go"
	"github.com/anchore/syft/syft/artifact"
	"github.com/anchore/syft/syft/file"
	"github.com/anchore/syft/syft/pkg"
	syftsbom "github.com/anchore/syft/syft/sbom"
	"github.com/anchore/syft/syft/source"
)

// settle rewrites what Syft found so that it depends on the binary, its name
// and its version only: the place of the file becomes /name, the main module
// gets the release version, licences that are not certainly the module's are
// dropped. Identities (bom-ref, SPDXID) are computed anew from the result.
// It also returns the modules that are left without a licence.
func settle(found *syftsbom.SBOM, name, version, cache string) (syftsbom.SBOM, []string, error) {
	meta, ok := found.Source.Metadata.(source.FileMetadata)
	if !ok {
		return syftsbom.SBOM{}, nil, fmt.Errorf("unexpected source %T", found.Source.Metadata)
	}
	place := file.NewCoordinates("/"+name, "")
	renamed := map[artifact.ID]pkg.Package{}
	var packages []pkg.Package
	var unlicensed []string
	for _, p := range found.Artifacts.Packages.Sorted() {
		before, mainModule := p.ID(), isMain(p)
		p.Locations = file.NewLocationSet(file.NewLocationFromCoordinates(place))
		p.Licenses = pkg.NewLicenseSet(trustedLicences(p, cache)...)
		if mainModule {
			stamp(&p, version)
		} else if p.Licenses.Empty() {
			unlicensed = append(unlicensed, p.Name+"@"+p.Version)
		}
		p.SetID()
		renamed[before] = p
		packages = append(packages, p)
	}
	slices.Sort(unlicensed)
	meta.Path = name
	src := found.Source
	src.Metadata = meta
	return syftsbom.SBOM{
		Source:        src,
		Descriptor:    syftsbom.Descriptor{Name: toolName, Version: toolVersion},
		Relationships: rewire(found.Relationships, renamed, place),
		Artifacts: syftsbom.Artifacts{
			Packages:    pkg.NewCollection(packages...),
			FileDigests: map[file.Coordinates][]file.Digest{place: meta.Digests},
		},
	}, unlicensed, nil
}

func isMain(p pkg.Package) bool {
	info, ok := p.Metadata.(pkg.GolangBinaryBuildinfoEntry)
	return ok && info.MainModule != "" && info.MainModule == p.Name
}

// stamp gives the main module the release's version.
func stamp(p *pkg.Package, version string) {
	p.Version = version
	namespace, name := "", p.Name
	if i := strings.LastIndexByte(p.Name, '/'); i >= 0 {
		namespace, name = p.Name[:i], p.Name[i+1:]
	}
	p.PURL = packageurl.NewPackageURL(packageurl.TypeGolang, namespace, name, version, nil, "").ToString()
	p.CPEs = nil // nobody files vulnerabilities under a version that is not out yet
}

// rewire points relationships at the settled packages and the settled place of
// the file, and puts them into an order of their own. Those with the scanned
// source as a whole are dropped: the encoders write them themselves.
func rewire(old []artifact.Relationship, renamed map[artifact.ID]pkg.Package, place file.Coordinates) []artifact.Relationship {
	end := func(e artifact.Identifiable) (artifact.Identifiable, bool) {
		switch e := e.(type) {
		case pkg.Package:
			p, ok := renamed[e.ID()]
			return p, ok
		case file.Coordinates:
			return place, true
		}
		return nil, false
	}
	var out []artifact.Relationship
	for _, r := range old {
		from, ok1 := end(r.From)
		to, ok2 := end(r.To)
		if !ok1 || !ok2 {
			continue
		}
		r.From, r.To = from, to
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b artifact.Relationship) int {
		return strings.Compare(key(a), key(b))
	})
	return out
}

func key(r artifact.Relationship) string {
	return string(r.From.ID()) + " " + string(r.Type) + " " + string(r.To.ID())
}
