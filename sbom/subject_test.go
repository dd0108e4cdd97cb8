package sbom

import (
	"strings"
	"testing"
)

const someDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestSubject(t *testing.T) {
	with := func(hashes string) string {
		return `{"bomFormat":"CycloneDX","metadata":{"component":{"name":"x","hashes":[` + hashes + `]}}}`
	}
	good := `{"alg":"SHA-256","content":"` + someDigest + `"}`
	for name, tt := range map[string]struct{ doc, want, err string }{
		"one SHA-256 is the subject":             {with(good), someDigest, ""},
		"other algorithms are passed over":       {with(`{"alg":"SHA-1","content":"00"},` + good), someDigest, ""},
		"two SHA-256 are ambiguous":              {with(good + "," + good), "", "more than one"},
		"no hash at all":                         {with(""), "", "no SHA-256 of"},
		"an upper-case digest is not ours":       {with(strings.ToUpper(good)), "", "SHA-256"},
		"a digest that is too short":             {with(`{"alg":"SHA-256","content":"e3b0"}`), "", "is no SHA-256"},
		"an SPDX document":                       {`{"spdxVersion":"SPDX-2.3"}`, "", "not CycloneDX"},
		"an empty file":                          {"", "", "reading SBOM"},
		"a truncated document":                   {with(good)[:60], "", "reading SBOM"},
		"two documents one after the other":      {with(good) + with(good), "", "reading SBOM"},
		"the hash of a component, not of itself": {`{"bomFormat":"CycloneDX","components":[{"hashes":[` + good + `]}]}`, "", "no SHA-256 of"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Subject([]byte(tt.doc))
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("Subject = %q, %v; want %q, error with %q", got, err, tt.want, tt.err)
			}
		})
	}
}

func FuzzSubject(f *testing.F) {
	f.Add([]byte(`{"bomFormat":"CycloneDX","metadata":{"component":{"hashes":[{"alg":"SHA-256","content":"` + someDigest + `"}]}}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if got, err := Subject(doc); err == nil && !sha256Hex.MatchString(got) {
			t.Errorf("Subject(%q) = %q", doc, got)
		}
	})
}
