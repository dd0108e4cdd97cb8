# Denies a release without an SBOM for every artifact and for the eBPF object,
# or with one that lists no component: a packed or stripped-down file gives an
# SBOM that is well-formed and empty.
package sluice.builtin.empty_sbom

import data.lib.location

deny contains {
	"message": "there is no CycloneDX SBOM",
	"input": location.of(item),
	"fix": "generate one (sluice sbom)",
} if {
	some item in items
	not cyclonedx_document(item)
}

deny contains {
	"message": "the SBOM lists no component",
	"input": location.of(artifact),
	"fix": "generate the SBOM from the binary before it is packed; a Go binary must keep its build information",
} if {
	some artifact in input.artifacts
	cyclonedx_document(artifact)
	not lists_components(artifact.sbom)
}

items contains artifact if some artifact in input.artifacts

items contains input.object

cyclonedx_document(item) if item.sbom.bomFormat == "CycloneDX"

lists_components(sbom) if {
	is_array(sbom.components)
	count(sbom.components) > 0
}
