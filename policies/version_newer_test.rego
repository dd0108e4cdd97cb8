package sluice.builtin.version_newer_test

import data.fixture_test as fixture
import data.sluice.builtin.version_newer

release(version, running) := fixture.changed("/release", {"name": "shop", "version": version, "running": running})

test_newer if count(version_newer.deny) == 0 with input as release("v1.0.1", "v1.0.0")

test_nothing_runs if count(version_newer.deny) == 0 with input as release("v0.0.1", "")

test_release_after_its_candidate if count(version_newer.deny) == 0 with input as release("v1.0.0", "v1.0.0-rc.1")

test_denied[note] if {
	some note, pair in {
		"the same": ["v1.0.0", "v1.0.0"],
		"the same without v": ["1.0.0", "v1.0.0"],
		"the same with build metadata": ["v1.0.0+2", "v1.0.0+1"],
		"older": ["v1.0.0", "v1.0.1"],
		"candidate after its release": ["v1.0.0-rc.1", "v1.0.0"],
		"what runs has no order": ["v1.0.0", "latest"],
	}
	count(version_newer.deny) == 1 with input as release(pair[0], pair[1])
}

# What runs must be said: "" for nothing.
test_not_said if count(version_newer.deny) == 1 with input as fixture.without("/release/running")
