# SemVer 2.0.0. The semver built-ins of OPA accept versions that the
# specification does not ("01.2.3", "1.2.3-01") and take "-1" for a number, so
# both the grammar and the order are written out here.
package lib.semver

# The expression of semver.org, with the leading v that git tags have.
grammar := concat("", [
	`^v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)`,
	`(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?`,
	`(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$`,
])

valid(version) if regex.match(grammar, version)

# True if a has the higher precedence (section 11). Undefined if either is not
# SemVer. Build metadata does not count.
newer(a, b) if order(a) > order(b)

# An array that sorts as the specification orders versions: Rego compares
# arrays element by element, and a shorter one comes first.
order(version) := array.concat([number(major), number(minor), number(patch)], [prerelease(parts[4])]) if {
	parts := regex.find_all_string_submatch_n(grammar, version, 1)[0]
	major := parts[1]
	minor := parts[2]
	patch := parts[3]
}

# Without leading zeros the longer number is the greater one, however long.
number(digits) := [count(digits), digits]

# No pre-release comes after every pre-release.
prerelease("") := [[2]]

prerelease(text) := [identifier(id) | some id in split(text, ".")] if text != ""

# Numeric identifiers come before the others.
identifier(id) := [0, number(id)] if regex.match(`^\d+$`, id)

identifier(id) := [1, id] if not regex.match(`^\d+$`, id)
