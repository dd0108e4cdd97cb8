# Denies a release of which an artifact, an SBOM, the eBPF object or the image
# carries no verified signature.
package sluice.builtin.missing_signature

import data.lib.location

deny contains unsigned("artifact", location.of(artifact)) if {
	some artifact in input.artifacts
	not artifact.signed
}

deny contains unsigned("SBOM of the artifact", location.of(artifact)) if {
	some artifact in input.artifacts
	not artifact.sbom_signed
}

deny contains unsigned("eBPF object", location.of(object.get(input, "object", {}))) if not input.object.signed

deny contains unsigned("SBOM of the eBPF object", location.of(object.get(input, "object", {}))) if not input.object.sbom_signed

# A release for platforms that are not Linux has no image.
deny contains unsigned("image", input.image.digest) if {
	input.image.digest != ""
	not input.image.signed
}

unsigned(what, path) := {
	"message": sprintf("%s has no verified signature", [what]),
	"input": path,
	"fix": "sign it with the release key (sluice sign), or name the key that signed it",
}
