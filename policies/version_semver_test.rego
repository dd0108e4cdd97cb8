package sluice.builtin.version_semver_test

import data.fixture_test as fixture
import data.sluice.builtin.version_semver

test_semver if count(version_semver.deny) == 0 with input as fixture.good

test_not_semver if {
	fixture.messages(version_semver.deny) == {"version \"v1.1\" is not SemVer 2.0.0"} with input as fixture.changed("/release/version", "v1.1")
}

test_no_version if count(version_semver.deny) == 1 with input as fixture.without("/release/version")

test_no_release if count(version_semver.deny) == 1 with input as fixture.without("/release")
