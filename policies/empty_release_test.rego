package sluice.builtin.empty_release_test

import data.fixture_test as fixture
import data.sluice.builtin.empty_release

test_something if count(empty_release.deny) == 0 with input as fixture.good

test_no_artifacts[note] if {
	some note, value in {"empty": [], "null": null}
	"the release contains no artifact" in fixture.messages(empty_release.deny) with input as fixture.changed("/artifacts", value)
}

test_nothing_said if count(empty_release.deny) == 2 with input as {}

test_unidentified[path] if {
	some path in ["/artifacts/0/path", "/artifacts/0/sha256", "/object/path", "/object/sha256"]
	count(empty_release.deny) == 1 with input as fixture.without(path)
}

test_short_digest if count(empty_release.deny) == 1 with input as fixture.changed("/artifacts/0/sha256", "abc")
