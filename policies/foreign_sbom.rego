# Denies a release whose SBOM describes something other than its artifact.
package sluice.builtin.foreign_sbom

import data.lib.cyclonedx
import data.lib.location

deny contains {
	"message": sprintf("the SBOM describes %s, the artifact is sha256 %s", [described(item.sbom), digest(item)]),
	"input": location.of(item),
	"fix": "generate the SBOM from this very file (sluice sbom), and do not change the file afterwards",
} if {
	some item in items
	is_object(item.sbom)
	not belongs(item)
}

items contains artifact if some artifact in input.artifacts

items contains input.object

belongs(item) if {
	digest(item) != ""
	cyclonedx.subject(item.sbom) == digest(item)
}

digest(item) := lower(trim_prefix(object.get(item, "sha256", ""), "sha256:"))

described(sbom) := sprintf("sha256 %s", [cyclonedx.subject(sbom)])

described(sbom) := "nothing that can be identified" if not cyclonedx.subject(sbom)
