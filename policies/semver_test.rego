package lib.semver_test

import data.lib.semver

# Section 11 of the specification, and what implementations get wrong.
ascending := [
	"0.0.1", "0.9.9", "1.0.0-0", "1.0.0-2", "1.0.0-10", "1.0.0-99999999999999999998", "1.0.0-99999999999999999999",
	"1.0.0--1", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
	"1.0.0-rc.1", "1.0.0", "v1.0.1", "v1.2.0", "1.10.0", "2.0.0-rc.1", "2.0.0", "99999999999999999999.0.0",
]

test_order if {
	every i, a in ascending {
		every j, b in ascending {
			later(i, j, a, b)
		}
	}
}

later(i, j, a, b) if {
	i > j
	semver.newer(a, b)
}

later(i, j, a, b) if {
	i <= j
	not semver.newer(a, b)
}

test_build_metadata_does_not_count if not semver.newer("1.0.0+b", "1.0.0+a")

test_the_v_does_not_count if not semver.newer("v1.0.0", "1.0.0")

test_valid[version] if {
	some version in ["0.0.0", "v1.2.3", "1.2.3-rc.1+build.01", "1.0.0-0A.is.legal", "1.0.0--", "1.2.3----RC-SNAPSHOT.12.9.1--.12"]
	semver.valid(version)
}

test_invalid[version] if {
	some version in [
		"", "v", "1", "1.2", "v1.2", "1.2.3.4", "01.2.3", "1.02.3", "1.2.3-01", "1.2.3-", "1.2.3+", "1.2.3-a..b",
		"V1.2.3", "vv1.2.3", " 1.2.3", "1.2.3 ", "1.2.3\n", "1.2.3-ä", "1.2.3+a+b", "-1.2.3", "latest", "١.٢.٣",
	]
	not semver.valid(version)
}
