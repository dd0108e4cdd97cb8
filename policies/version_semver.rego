# Denies a version that is not SemVer 2.0.0. A leading v, as in git tags, is
# accepted: v1.2.3 and 1.2.3 are the same version.
package sluice.builtin.version_semver

import data.lib.semver

deny contains {
	"message": sprintf("version %q is not SemVer 2.0.0", [version]),
	"input": "release.version",
	"fix": "use MAJOR.MINOR.PATCH, such as v1.4.2 or v2.0.0-rc.1",
} if {
	not semver.valid(version)
}

# A function is not called with an argument that is undefined, and then its
# negation is not true either: hence the default.
version := object.get(input, ["release", "version"], "")
