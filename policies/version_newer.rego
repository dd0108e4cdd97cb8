# Denies a version that does not have a higher SemVer precedence than the one
# that runs. The same version again is not newer; build metadata does not
# count. When nothing runs every version is new.
package sluice.builtin.version_newer

import data.lib.semver

deny contains {
	"message": sprintf("version %s is not newer than %s, which runs", [input.release.version, running]),
	"input": "release.version",
	"fix": "release a higher version; to return to an older one use sluice rollback",
} if {
	semver.valid(input.release.version)
	running != ""
	not semver.newer(input.release.version, running)
}

# That nothing runs must be said, by "".
running := object.get(input, ["release", "running"], "an unknown version")
