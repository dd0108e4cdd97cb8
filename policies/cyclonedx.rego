# Reads CycloneDX documents. Rules of one's own may import it.
package lib.cyclonedx

# The hex SHA-256 of the artifact that the document describes. Undefined when
# the document does not say, or says more than one.
subject(sbom) := hex if {
	main := sbom.metadata.component
	digests := hashes(main) | versions(main)
	count(digests) == 1
	some hex in digests
}

hashes(component) := {lower(hash.content) |
	some hash in component.hashes
	hash.alg == "SHA-256"
}

# Where there is no hash list, scanners put the digest into the version.
versions(component) := {lower(hex) |
	not component.hashes
	hex := trim_prefix(component.version, "sha256:")
	hex != component.version
}

# name@version for messages, as far as there is one.
label(component) := sprintf("%s@%s", [full_name(component), component.version]) if component.version != ""

label(component) := full_name(component) if not has_version(component)

has_version(component) if component.version != ""

# group/name, or the name alone. Every component has one, so that no rule is
# undefined because of a component without.
full_name(component) := sprintf("%s/%s", [component.group, component.name]) if {
	component.group != ""
	component.name
}

full_name(component) := object.get(component, "name", "a component without name") if not has_group(component)

has_group(component) if {
	component.group != ""
	component.name
}
