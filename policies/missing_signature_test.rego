package sluice.builtin.missing_signature_test

import data.fixture_test as fixture
import data.sluice.builtin.missing_signature

test_all_signed if count(missing_signature.deny) == 0 with input as fixture.good

test_unsigned[path] if {
	some path in ["/artifacts/0/signed", "/artifacts/0/sbom_signed", "/object/signed", "/object/sbom_signed", "/image/signed"]
	count(missing_signature.deny) == 1 with input as fixture.changed(path, false)
}

test_not_said_is_unsigned[path] if {
	some path in ["/artifacts/0/signed", "/artifacts/0/sbom_signed", "/object/signed", "/object/sbom_signed", "/image/signed"]
	count(missing_signature.deny) == 1 with input as fixture.without(path)
}

test_no_object if count(missing_signature.deny) == 2 with input as fixture.without("/object")

test_no_image if count(missing_signature.deny) == 0 with input as fixture.changed("/image", {"digest": "", "signed": false})

test_second_artifact if {
	release := json.patch(fixture.good, [{"op": "add", "path": "/artifacts/-", "value": {"path": "other"}}])
	{d.input | some d in missing_signature.deny} == {"other"} with input as release
}
