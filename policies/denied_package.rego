# Denies a release that contains a package listed in data.denied.packages.
#
# An entry names a package ("github.com/example/bad"), one version of it
# ("github.com/example/bad@v1.2.3") or, beginning with pkg:, a package URL with
# or without version. The wildcards * and ? stand for any characters and for
# one. Case does not matter. A package with a group is found by its name and by
# group/name.
package sluice.builtin.denied_package

import data.lib.cyclonedx
import data.lib.location

deny contains finding(artifact, component, entry) if {
	some [i, j] in hits
	artifact := input.artifacts[i]
	component := artifact.sbom.components[j]
	some entry in denying(component)
}

# Components inside components: rare, so the document is walked only for these.
deny contains finding(artifact, component, entry) if {
	count(entries) > 0
	some artifact in input.artifacts
	some outer in artifact.sbom.components
	walk(outer.components, [_, component])
	component.name
	some entry in denying(component)
}

deny contains {
	"message": "data.denied.packages is not a list of names",
	"input": "data.denied.packages",
	"fix": "write a list of strings, such as [\"github.com/example/bad\", \"pkg:npm/left-*\"]",
} if {
	not well_formed(object.get(data.denied, "packages", []))
}

well_formed(null) # an empty list in YAML

well_formed(list) if {
	is_array(list)
	every entry in list {
		is_string(entry)
		entry != ""
	}
}

finding(artifact, component, entry) := {
	"message": sprintf("package %s is denied by %q", [cyclonedx.label(component), entry]),
	"input": location.of(artifact),
	"fix": "remove or replace the package, or take the entry out of the denied packages",
}

entries contains entry if {
	some entry in data.denied.packages
	is_string(entry)
}

# The kinds of entry, each with what it is compared with.
kind(entry) := "url" if startswith(lower(entry), "pkg:")

kind(entry) := "versioned" if {
	not startswith(lower(entry), "pkg:")
	regex.match(`.@[^/]*$`, entry)
}

kind(entry) := "name" if {
	not startswith(lower(entry), "pkg:")
	not regex.match(`.@[^/]*$`, entry)
}

# One expression a kind: thousands of components, but few passes over them.
all_of[what] := sprintf("(?is)^(?:%s)$", [concat("|", sources)]) if {
	some what in {"name", "versioned", "url"}
	sources := {source(entry) | some entry in entries; kind(entry) == what}
	count(sources) > 0
}

hits contains [i, j] if regex.match(all_of.name, input.artifacts[i].sbom.components[j].name)

hits contains [i, j] if {
	all_of.versioned
	some i, artifact in input.artifacts
	some j, component in artifact.sbom.components
	regex.match(all_of.versioned, concat("@", [component.name, component.version]))
}

hits contains [i, j] if regex.match(all_of.url, input.artifacts[i].sbom.components[j].purl)

hits contains [i, j] if {
	all_of.url
	contains(input.artifacts[i].sbom.components[j].purl, "%")
}

hits contains [i, j] if {
	count(entries) > 0
	input.artifacts[i].sbom.components[j].group != ""
}

# The entries that deny one component.
denying(component) := {entry |
	some entry in entries
	some text in texts(component, kind(entry))
	regex.match(sprintf("(?is)^(?:%s)$", [source(entry)]), text)
}

texts(component, "name") := {component.name, cyclonedx.full_name(component)}

texts(component, "versioned") := {text |
	some name in {component.name, cyclonedx.full_name(component)}
	text := concat("@", [name, component.version])
}

texts(component, "url") := {plain(component.purl)}

# An entry as a regular expression. A package URL without version stands for
# every version, and its qualifiers never count.
source(entry) := literal(entry) if kind(entry) != "url"

source(entry) := concat("", [literal(plain(entry)), tail(entry)]) if kind(entry) == "url"

tail(entry) := `(?:[?#].*)?` if regex.match(`/[^/]+@[^/]*$`, plain(entry))

tail(entry) := `(?:@[^/@]*)?(?:[?#].*)?` if not regex.match(`/[^/]+@[^/]*$`, plain(entry))

literal(text) := replace(replace(regex.replace(text, `[.+()|\[\]{}^$\\]`, `\$0`), "*", ".*"), "?", ".")

# A package URL may be percent-encoded or not; both mean the same package.
plain(url) := url if not contains(url, "%")

plain(url) := urlquery.decode(replace(url, "+", "%2B")) if contains(url, "%")
