package sluice.builtin.denied_license_test

import data.fixture_test as fixture
import data.sluice.builtin.denied_license

id(text) := {"name": "lib", "version": "1", "licenses": [{"license": {"id": text}}]}

expression(text) := {"name": "lib", "version": "1", "licenses": [{"expression": text}]}

findings(component, list) := found if {
	found := denied_license.deny with input as fixture.release([component]) with data.denied.licenses as list
}

test_denied[note] if {
	some note, component in {
		"id": id("GPL-3.0-only"),
		"id in another case": id("gpl-3.0-ONLY"),
		"name": {"name": "lib", "licenses": [{"license": {"name": "GPL-3.0-only"}}]},
		"second of two": {"name": "lib", "licenses": [{"license": {"id": "MIT"}}, {"license": {"id": "GPL-3.0-only"}}]},
		"with an exception": expression("GPL-3.0-only WITH GCC-exception-3.1"),
		"both wanted": expression("MIT AND GPL-3.0-only"),
		"both alternatives": expression("GPL-3.0-only OR MIT AND GPL-3.0-only"),
		"in parentheses": expression("MIT AND (Apache-2.0 OR GPL-3.0-only)"),
		"no name": {"licenses": [{"expression": "GPL-3.0-only"}]},
		"a group and no name": {"group": "g", "licenses": [{"expression": "GPL-3.0-only"}]},
		"inside another component": {"name": "outer", "components": [id("GPL-3.0-only")]},
	}
	count(findings(component, ["gpl-3.0-*"])) == 1
}

test_allowed[note] if {
	some note, component in {
		"another": id("MIT"),
		"none": {"name": "lib"},
		"an alternative": expression("GPL-3.0-only  or\tMIT"),
		"a longer id": id("LGPL-3.0-only"),
	}
	count(findings(component, ["gpl-3.0-*"])) == 0
}

test_name_with_or_in_it if count(findings(id("GNU GPL v2 or later (any)"), ["gnu gpl*"])) == 1

test_nothing_configured if count(denied_license.deny) == 0 with input as fixture.release([id("GPL-3.0-only")])

test_message if {
	findings(id("GPL-3.0-only"), ["GPL-*"]) == {{
		"message": "package lib@1 has the denied licence \"GPL-3.0-only\"",
		"input": "bin/linux_amd64/shop",
		"fix": "replace the package by one under another licence, or take the licence out of the denied ones",
	}}
}

test_malformed if {
	"data.denied.licenses is not a list of licences" in fixture.messages(findings(id("MIT"), "GPL"))
}
