// Package policies holds the release rules that Sluice ships, as files.
//
// Each rule is one small Rego file in a package sluice.builtin.<rule> and has
// its tests beside it; README.md describes the document the rules see and how
// to add one's own. The package only carries the files: internal/policy
// evaluates them.
package policies

import "embed"

// FS holds every Rego file of this directory, tests included, and what is written
// as JSON: input.schema.json, the JSON Schema of the input document; object.json,
// what an eBPF object may contain; seccomp-probe.json, what sluice-probe may call.
//
//go:embed *.rego *.json
var FS embed.FS
