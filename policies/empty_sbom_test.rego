package sluice.builtin.empty_sbom_test

import data.fixture_test as fixture
import data.sluice.builtin.empty_sbom

test_components if count(empty_sbom.deny) == 0 with input as fixture.good

test_empty[note] if {
	some note, components in {"no entry": [], "null": null, "an object": {"a": 1}, "a word": "none"}
	"the SBOM lists no component" in fixture.messages(empty_sbom.deny) with input as fixture.changed("/artifacts/0/sbom/components", components)
}

test_no_components_field if count(empty_sbom.deny) == 1 with input as fixture.without("/artifacts/0/sbom/components")

test_no_document[note] if {
	some note, sbom in {"null": null, "a word": "x", "another format": {"spdxVersion": "SPDX-2.3"}}
	count(empty_sbom.deny) == 1 with input as fixture.changed("/artifacts/0/sbom", sbom)
}

test_not_given if count(empty_sbom.deny) == 1 with input as fixture.without("/artifacts/0/sbom")

# An eBPF object has no packages to list, but it has its document.
test_object if count(empty_sbom.deny) == 1 with input as fixture.without("/object/sbom")
