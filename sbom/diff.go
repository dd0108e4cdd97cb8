package sbom

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
)

// Change is a component that is not the same in two documents. A version is
// empty where the component is missing.
type Change struct {
	Name     string   `json:"name"`
	Old      string   `json:"old,omitempty"`      // version
	New      string   `json:"new,omitempty"`      // version
	Licences []string `json:"licences,omitempty"` // of the new one, else of the old one
}

// Diff returns what changed between two CycloneDX documents, by name. A component
// that is there in several versions is compared version by version. The artifact
// itself is left out.
func Diff(old, now []byte) ([]Change, error) {
	before, err := inventory(old)
	if err != nil {
		return nil, fmt.Errorf("reading the old document: %w", err)
	}
	after, err := inventory(now)
	if err != nil {
		return nil, fmt.Errorf("reading the new document: %w", err)
	}
	names := map[string]bool{}
	for _, set := range []map[string]versions{before, after} {
		for name := range set {
			names[name] = true
		}
	}
	var list []Change
	for name := range names {
		list = append(list, changes(name, before[name], after[name])...)
	}
	slices.SortFunc(list, func(a, b Change) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.New, b.New), strings.Compare(a.Old, b.Old))
	})
	return list, nil
}

// versions maps a version to its licences.
type versions map[string][]string

// changes pairs versions that went with versions that came, in their order.
func changes(name string, before, after versions) []Change {
	var went, came []string
	for v := range before {
		if _, kept := after[v]; !kept {
			went = append(went, v)
		}
	}
	for v := range after {
		if _, kept := before[v]; !kept {
			came = append(came, v)
		}
	}
	slices.Sort(went)
	slices.Sort(came)
	var list []Change
	for i := range max(len(went), len(came)) {
		c := Change{Name: name}
		if i < len(went) {
			c.Old, c.Licences = went[i], before[went[i]]
		}
		if i < len(came) {
			c.New, c.Licences = came[i], after[came[i]]
		}
		list = append(list, c)
	}
	return list
}

func inventory(raw []byte) (map[string]versions, error) {
	var doc cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(raw), cyclonedx.BOMFileFormatJSON).Decode(&doc); err != nil {
		return nil, err
	}
	if doc.BOMFormat != "CycloneDX" {
		return nil, fmt.Errorf("it is no CycloneDX document (bomFormat %q)", doc.BOMFormat)
	}
	set := map[string]versions{}
	if doc.Components == nil {
		return set, nil
	}
	for _, c := range *doc.Components {
		if set[c.Name] == nil {
			set[c.Name] = versions{}
		}
		set[c.Name][c.Version] = licencesOf(c)
	}
	return set, nil
}

func licencesOf(c cyclonedx.Component) []string {
	if c.Licenses == nil {
		return nil
	}
	found := map[string]bool{}
	for _, l := range *c.Licenses {
		name := l.Expression
		if l.License != nil {
			name = cmp.Or(l.License.ID, l.License.Name)
		}
		found[name] = name != ""
	}
	delete(found, "")
	return slices.Sorted(maps.Keys(found))
}
