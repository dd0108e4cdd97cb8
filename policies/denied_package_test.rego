package sluice.builtin.denied_package_test

import data.fixture_test as fixture
import data.sluice.builtin.denied_package

component := {
	"name": "github.com/Example/bad",
	"version": "v1.2.3+incompatible",
	"purl": "pkg:golang/github.com/Example/bad@v1.2.3%2Bincompatible?type=module#sub",
}

scoped := {"group": "@scope", "name": "left-pad", "version": "1.0.0", "purl": "pkg:npm/%40scope/left-pad@1.0.0"}

plain := {"name": "left-pad", "version": "1.0.0", "purl": "pkg:npm/left-pad@1.0.0"}

denied(components, entry) if {
	count(denied_package.deny) == 1 with input as fixture.release(components) with data.denied.packages as [entry]
}

clear(components, entry) if {
	count(denied_package.deny) == 0 with input as fixture.release(components) with data.denied.packages as [entry]
}

test_entries_that_mean_the_package[note] if {
	some note, entry in {
		"name": "github.com/example/bad",
		"name and version": "github.com/example/bad@v1.2.3+incompatible",
		"wildcard for the end": "github.com/example/*",
		"wildcard for one character": "github.com/example/b?d",
		"wildcard for the version": "github.com/example/bad@v1.*",
		"everything": "*",
		"package URL": "pkg:golang/github.com/example/bad",
		"package URL and version": "pkg:golang/github.com/example/bad@v1.2.3+incompatible",
		"package URL encoded": "pkg:golang/github.com/example/bad@v1.2.3%2Bincompatible",
		"package URL pattern": "pkg:golang/*/bad",
	}
	denied([component], entry)
}

test_entries_that_mean_another_package[note] if {
	some note, entry in {
		"a prefix of the name": "github.com/example/ba",
		"a suffix of the name": "bad",
		"a dot is a dot": "githubxcom/example/bad",
		"another version": "github.com/example/bad@v1.2.4",
		"a prefix of the version": "github.com/example/bad@v1.2.3",
		"another ecosystem": "pkg:npm/github.com/example/bad",
		"another version as URL": "pkg:golang/github.com/example/bad@v1.2",
		"a pattern of names is none of URLs": "p*",
		"the characters of expressions": "github.com/(example|bad)/[a-z]+",
	}
	clear([component], entry)
}

test_scoped[note] if {
	some note, entry in {
		"name alone": "left-pad",
		"with its group": "@scope/left-pad",
		"with group and version": "@scope/left-pad@1.0.0",
		"as package URL": "pkg:npm/@scope/left-pad",
		"as encoded package URL": "pkg:npm/%40scope/left-pad@1.0.0",
	}
	denied([scoped], entry)
}

test_scope_of_another if clear([plain], "@scope/left-pad")

test_no_version if denied([{"name": "left-pad"}], "left-pad")

test_several if {
	count(denied_package.deny) == 2 with input as fixture.release([component, plain, scoped])
		with data.denied.packages as ["pkg:npm/*"]
}

test_nested if denied([{"name": "outer", "components": [{"name": "middle", "components": [plain]}]}], "left-pad")

test_nothing_configured if count(denied_package.deny) == 0 with input as fixture.release([component])

test_empty_list if count(denied_package.deny) == 0 with input as fixture.good with data.denied.packages as null

test_message if {
	denied_package.deny == {{
		"message": "package github.com/Example/bad@v1.2.3+incompatible is denied by \"github.com/example/*\"",
		"input": "bin/linux_amd64/shop",
		"fix": "remove or replace the package, or take the entry out of the denied packages",
	}} with input as fixture.release([component]) with data.denied.packages as ["github.com/example/*"]
}

test_malformed[note] if {
	some note, list in {"a word": "left-pad", "a number in it": [1], "an empty entry": [""], "an object": {"a": "b"}}
	"data.denied.packages is not a list of names" in fixture.messages(denied_package.deny) with input as fixture.good
		with data.denied.packages as list
}
