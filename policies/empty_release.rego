# Denies a release that contains nothing: with no artifact every other rule
# would be content.
package sluice.builtin.empty_release

deny contains {
	"message": "the release contains no artifact",
	"input": "artifacts",
	"fix": "build at least one platform (sluice build)",
} if {
	not has_artifacts
}

deny contains {
	"message": "artifact without path or sha256",
	"input": sprintf("artifacts[%d]", [i]),
	"fix": "give the file's path and its SHA-256",
} if {
	some i, artifact in input.artifacts
	not identified(artifact)
}

deny contains {
	"message": "the release contains no eBPF object",
	"input": "object",
	"fix": "add the probe object (sluice bpf)",
} if {
	not identified(object.get(input, "object", {}))
}

has_artifacts if {
	is_array(input.artifacts)
	count(input.artifacts) > 0
}

identified(item) if {
	item.path != ""
	regex.match(`^(sha256:)?[0-9a-fA-F]{64}$`, item.sha256)
}
