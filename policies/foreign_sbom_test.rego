package sluice.builtin.foreign_sbom_test

import data.fixture_test as fixture
import data.sluice.builtin.foreign_sbom

other := "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

main := "/artifacts/0/sbom/metadata/component"

test_belongs if count(foreign_sbom.deny) == 0 with input as fixture.good

test_digest_with_algorithm if {
	count(foreign_sbom.deny) == 0 with input as fixture.changed("/artifacts/0/sha256", concat(":", ["sha256", fixture.digest]))
}

test_digest_in_the_version if {
	count(foreign_sbom.deny) == 0 with input as fixture.changed(main, {"version": concat(":", ["sha256", fixture.digest])})
}

test_foreign[note] if {
	some note, component in {
		"another file": {"hashes": [{"alg": "SHA-256", "content": other}]},
		"another file in the version": {"version": concat(":", ["sha256", other])},
		"two files": {"hashes": [{"alg": "SHA-256", "content": other}, {"alg": "SHA-256", "content": fixture.digest}]},
		"another algorithm": {"hashes": [{"alg": "SHA-1", "content": fixture.digest}]},
		"the hash counts, not the version": {
			"hashes": [{"alg": "SHA-256", "content": other}],
			"version": concat(":", ["sha256", fixture.digest]),
		},
		"a plain version": {"version": "v1.1.0"},
		"nothing": {},
	}
	count(foreign_sbom.deny) == 1 with input as fixture.changed(main, component)
}

test_object if count(foreign_sbom.deny) == 1 with input as fixture.changed("/object/sha256", other)

test_no_digest_is_no_match if {
	count(foreign_sbom.deny) == 1 with input as fixture.changed("/artifacts/0/sha256", "")
}

test_digest_not_given if count(foreign_sbom.deny) == 1 with input as fixture.without("/artifacts/0/sha256")

test_message if {
	some denial in foreign_sbom.deny with input as fixture.changed("/artifacts/0/sha256", other)
	denial.message == sprintf("the SBOM describes sha256 %s, the artifact is sha256 %s", [fixture.digest, other])
	denial.input == "bin/linux_amd64/shop"
}
