# Denies a release that contains a package under a licence listed in
# data.denied.licenses: SPDX ids or licence names, with the wildcards * and ?.
#
# In an SPDX expression without parentheses the best alternative counts: "MIT
# OR GPL-3.0-only" passes when only the GPL is denied. An expression with
# parentheses is denied as soon as it names a denied licence anywhere.
package sluice.builtin.denied_license

import data.lib.cyclonedx
import data.lib.location

deny contains finding(artifact, component, text) if {
	count(denied_texts) > 0
	some artifact in input.artifacts
	some component in artifact.sbom.components
	some text in (texts(component) & denied_texts)
}

deny contains finding(artifact, component, text) if {
	count(denied_texts) > 0
	some artifact in input.artifacts
	some component in nested(artifact)
	some text in (texts(component) & denied_texts)
}

deny contains {
	"message": "data.denied.licenses is not a list of licences",
	"input": "data.denied.licenses",
	"fix": "write a list of strings, such as [\"AGPL-*\", \"SSPL-1.0\"]",
} if {
	not well_formed(object.get(data.denied, "licenses", []))
}

well_formed(null) # an empty list in YAML

well_formed(list) if {
	is_array(list)
	every entry in list {
		is_string(entry)
		entry != ""
	}
}

finding(artifact, component, text) := {
	"message": sprintf("package %s has the denied licence %q", [cyclonedx.label(component), text]),
	"input": location.of(artifact),
	"fix": "replace the package by one under another licence, or take the licence out of the denied ones",
}

patterns contains lower(entry) if {
	some entry in data.denied.licenses
	is_string(entry)
}

# Components inside components.
nested(artifact) := [component |
	walk(artifact.sbom.components[_].components, [_, component])
	component.licenses
]

# Few distinct licences stand behind thousands of components.
names contains input.artifacts[_].sbom.components[_].licenses[_].license.id

names contains input.artifacts[_].sbom.components[_].licenses[_].license.name

names contains name if {
	some component in nested(input.artifacts[_])
	some name in (texts(component) - {text | text := component.licenses[_].expression})
}

expressions contains input.artifacts[_].sbom.components[_].licenses[_].expression

expressions contains nested(input.artifacts[_])[_].licenses[_].expression

denied_texts contains text if {
	count(patterns) > 0
	some text in names
	denied(tidy(text))
}

denied_texts contains text if {
	count(patterns) > 0
	some text in expressions
	expression_denied(tidy(text))
}

texts(component) := ({text | text := component.licenses[_].license.id} | {text | text := component.licenses[_].license.name}) | {text | text := component.licenses[_].expression}

tidy(text) := trim_space(regex.replace(lower(text), `\s+`, " "))

expression_denied(expression) if {
	not contains(expression, "(")
	every alternative in split(expression, " or ") {
		some term in split(alternative, " and ")
		denied(term)
	}
}

expression_denied(expression) if {
	contains(expression, "(")
	some term in regex.split(`\s*[()]\s*|\s+or\s+|\s+and\s+`, expression)
	denied(term)
}

# An exception ("GPL-2.0-only WITH Classpath-exception-2.0") does not lift the
# denial of the licence itself.
denied(term) if {
	some pattern in patterns
	some name in {term, split(term, " with ")[0]}
	glob.match(pattern, null, name)
}
