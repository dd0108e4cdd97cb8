package sign

import (
	"cmp"
	"maps"
	"slices"
)

// BuildType names how Sluice builds: a Go main package, cross-compiled without
// cgo, with trimmed paths and no build id.
const BuildType = "https://sluice.dev/build/go/v1"

// BuilderID names the builder in a provenance: Sluice itself, run by whoever
// holds the key. It claims no isolation (SLSA Build L1).
const BuilderID = "https://sluice.dev/builder/v1"

// ProvenanceInput is what a provenance says about a build.
type ProvenanceInput struct {
	Main       string            // main package, as "./app"
	Version    string            // of the release
	Commit     string            // git commit, "" = not known
	GoVersion  string            // as "go1.26.3"
	BuildType  string            // a URI; "" = [BuildType]
	Parameters map[string]string // further inputs that the caller of the build chose
	Materials  []Subject         // files that the build read: go.sum, …
}

type provenance struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string            `json:"buildType"`
	ExternalParameters   map[string]string `json:"externalParameters"`
	InternalParameters   map[string]string `json:"internalParameters,omitempty"`
	ResolvedDependencies []resource        `json:"resolvedDependencies,omitempty"`
}

type runDetails struct {
	Builder builder `json:"builder"`
}

type builder struct {
	ID string `json:"id"`
}

// Provenance returns the predicate of a SLSA v1 provenance
// (https://slsa.dev/spec/v1.0/provenance), for a [Statement] of type
// [PredicateProvenance]. It holds no times and no invocation, so that the same
// build gives the same provenance.
func Provenance(in ProvenanceInput) any {
	external := maps.Clone(in.Parameters)
	if external == nil {
		external = map[string]string{}
	}
	external["main"], external["version"] = in.Main, in.Version
	var deps []resource
	if in.Commit != "" {
		deps = append(deps, resource{Name: "source", Digest: map[string]string{"gitCommit": in.Commit}})
	}
	materials := slices.SortedFunc(slices.Values(in.Materials), func(a, b Subject) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.SHA256, b.SHA256))
	})
	for _, m := range materials {
		deps = append(deps, resource{Name: m.Name, Digest: map[string]string{"sha256": m.SHA256}})
	}
	var internal map[string]string
	if in.GoVersion != "" {
		internal = map[string]string{"goVersion": in.GoVersion}
	}
	return provenance{
		BuildDefinition: buildDefinition{
			BuildType:            cmp.Or(in.BuildType, BuildType),
			ExternalParameters:   external,
			InternalParameters:   internal,
			ResolvedDependencies: deps,
		},
		RunDetails: runDetails{Builder: builder{ID: BuilderID}},
	}
}
