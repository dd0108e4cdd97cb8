package fixture_test

digest := "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

# An SBOM about that digest.
sbom(components) := {
	"bomFormat": "CycloneDX",
	"metadata": {"component": {"hashes": [{"alg": "SHA-256", "content": digest}]}},
	"components": components,
}

artifact(components) := {
	"platform": "linux/amd64",
	"path": "bin/linux_amd64/shop",
	"sha256": digest,
	"size_bytes": 100,
	"budget_bytes": 200,
	"signed": true,
	"sbom": sbom(components),
	"sbom_signed": true,
}

# A release that no rule objects to, with these components.
release(components) := {
	"release": {"name": "shop", "version": "v1.1.0", "commit": "", "running": "v1.0.0"},
	"artifacts": [artifact(components)],
	"object": {
		"path": "bpf/probe.bpf.o",
		"sha256": digest,
		"signed": true,
		"sbom": sbom([]),
		"sbom_signed": true,
	},
	"image": {"digest": concat(":", ["sha256", digest]), "signed": true},
}

good := release([{"name": "stdlib", "version": "1.26.3"}])

# The good release with one JSON patch operation.
changed(path, value) := json.patch(good, [{"op": "replace", "path": path, "value": value}])

without(path) := json.patch(good, [{"op": "remove", "path": path}])

messages(deny) := {d.message | some d in deny}
