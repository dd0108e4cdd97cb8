package sign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// edit returns the bundle with a change made to its decoded JSON.
func edit(t testing.TB, raw []byte, change func(m map[string]any)) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func at(m map[string]any, path ...string) map[string]any {
	for _, p := range path {
		m = m[p].(map[string]any)
	}
	return m
}

// flip changes the first byte of a base64 field.
func flip(m map[string]any, field string) {
	raw, err := base64.StdEncoding.DecodeString(m[field].(string))
	if err != nil {
		panic(err)
	}
	raw[0] ^= 1
	m[field] = base64.StdEncoding.EncodeToString(raw)
}

func wantRefusal(t *testing.T, err error, what string) {
	t.Helper()
	var refused *VerifyError
	if !errors.As(err, &refused) || refused.What != what {
		t.Errorf("got %v, want a refusal of the %s", err, what)
	}
}

func TestBlobRefuses(t *testing.T) {
	s, other := newKey(t), newKey(t)
	good := blob(t, s, artifact)
	change := func(f func(map[string]any)) []byte { return edit(t, good, f) }
	message := func(m map[string]any) map[string]any { return at(m, "messageSignature") }
	material := func(m map[string]any) map[string]any { return at(m, "verificationMaterial") }
	for name, tt := range map[string]struct {
		data, bundle []byte
		what         string
	}{
		"a flipped byte in the file":             {append([]byte{artifact[0] ^ 1}, artifact[1:]...), good, "digest"},
		"a file with something appended":         {append(artifact[:len(artifact):len(artifact)], 0), good, "digest"},
		"no file":                                {nil, good, "digest"},
		"the bundle of another file":             {artifact, blob(t, s, []byte("another")), "digest"},
		"a signature by another key":             {artifact, blob(t, other, artifact), "key"},
		"another key that says it is ours":       {artifact, edit(t, blob(t, other, artifact), func(m map[string]any) { at(m, "verificationMaterial", "publicKey")["hint"] = s.KeyID() }), "signature"},
		"a flipped byte in the signature":        {artifact, change(func(m map[string]any) { flip(message(m), "signature") }), "signature"},
		"a flipped byte in the digest":           {artifact, change(func(m map[string]any) { flip(at(m, "messageSignature", "messageDigest"), "digest") }), "digest"},
		"a flipped byte in the key id":           {artifact, change(func(m map[string]any) { at(m, "verificationMaterial", "publicKey")["hint"] = "x" + s.KeyID()[1:] }), "key"},
		"no key id":                              {artifact, change(func(m map[string]any) { at(m, "verificationMaterial", "publicKey")["hint"] = "" }), "key"},
		"no signature":                           {artifact, change(func(m map[string]any) { delete(message(m), "signature") }), "signature"},
		"no digest":                              {artifact, change(func(m map[string]any) { delete(message(m), "messageDigest") }), "digest"},
		"another digest algorithm":               {artifact, change(func(m map[string]any) { at(m, "messageSignature", "messageDigest")["algorithm"] = "SHA2_512" }), "digest"},
		"the signature of another file under it": {artifact, change(func(m map[string]any) { message(m)["signature"] = signatureOf(t, blob(t, s, []byte("another"))) }), "signature"},
		"another media type":                     {artifact, change(func(m map[string]any) { m["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.2+json" }), "bundle"},
		"the media type spelled the old way":     {artifact, change(func(m map[string]any) { m["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.3" }), "bundle"},
		"a certificate instead of a key": {artifact, change(func(m map[string]any) {
			m["verificationMaterial"] = map[string]any{"certificate": map[string]any{"rawBytes": "AAAA"}}
		}), "key"},
		"no verification material":       {artifact, change(func(m map[string]any) { delete(m, "verificationMaterial") }), "bundle"},
		"timestamps that nobody checks":  {artifact, change(func(m map[string]any) { material(m)["timestampVerificationData"] = map[string]any{} }), "key"},
		"a log entry that nobody checks": {artifact, change(func(m map[string]any) { material(m)["tlogEntries"] = []any{map[string]any{}} }), "bundle"},
		"an unknown field":               {artifact, change(func(m map[string]any) { m["extra"] = 1 }), "bundle"},
		"both kinds of content":          {artifact, change(func(m map[string]any) { m["dsseEnvelope"] = map[string]any{} }), "bundle"},
		"an attestation about the file":  {artifact, attest(t, s, PredicateImage, struct{}{}), "content"},
		"an empty bundle":                {artifact, nil, "size"},
		"an empty object":                {artifact, []byte("{}"), "bundle"},
		"a bundle followed by another":   {artifact, append(good[:len(good):len(good)], good...), "bundle"},
		"a huge bundle":                  {artifact, append(good[:len(good):len(good)], bytes.Repeat([]byte(" "), maxBlobBundle)...), "size"},
		"nesting without end":            {artifact, bytes.Repeat([]byte(`{"a":`), 40_000), "bundle"},
	} {
		t.Run(name, func(t *testing.T) { wantRefusal(t, s.verifier.Blob(tt.data, tt.bundle), tt.what) })
	}
	t.Run("a bundle cut anywhere", func(t *testing.T) {
		for n := range good {
			if err := s.verifier.Blob(artifact, good[:n]); err == nil {
				t.Fatalf("accepted after %d of %d bytes", n, len(good))
			}
		}
	})
	t.Run("everything when no evidence was named", func(t *testing.T) {
		wantRefusal(t, new(Verifier).Blob(artifact, good), "key")
		wantRefusal(t, (*Verifier)(nil).Blob(artifact, good), "key")
	})
}

func signatureOf(t testing.TB, raw []byte) string {
	t.Helper()
	var b struct{ MessageSignature struct{ Signature string } }
	if err := json.Unmarshal(raw, &b); err != nil {
		t.Fatal(err)
	}
	return b.MessageSignature.Signature
}

// seal signs any payload as a DSSE bundle, as an evil holder of the key could.
func seal(t testing.TB, s *Signer, payloadType string, payload []byte) []byte {
	t.Helper()
	sig, _, err := s.key.SignData(ctx, dsse.PAE(payloadType, payload))
	if err != nil {
		t.Fatal(err)
	}
	return edit(t, attest(t, s, PredicateImage, struct{}{}), func(m map[string]any) {
		e := at(m, "dsseEnvelope")
		e["payload"], e["payloadType"] = payload, payloadType
		e["signatures"] = []any{map[string]any{"sig": sig}}
	})
}

func TestAttestationRefuses(t *testing.T) {
	s, other := newKey(t), newKey(t)
	good := attest(t, s, PredicateImage, struct{}{})
	change := func(f func(e map[string]any)) []byte {
		return edit(t, good, func(m map[string]any) { f(at(m, "dsseEnvelope")) })
	}
	statement := func(head, tail string) []byte {
		return seal(t, s, bundle.IntotoMediaType, []byte(`{"_type":"`+head+`","subject":[{"digest":{"sha256":"`+digest+`"}}],"predicateType":"`+PredicateImage+`"`+tail+`}`))
	}
	first := func(e map[string]any) map[string]any { return e["signatures"].([]any)[0].(map[string]any) }
	for name, tt := range map[string]struct {
		bundle         []byte
		digest, demand string
		what           string
	}{
		"an SBOM where an image signature is demanded": {attest(t, s, PredicateCycloneDX, struct{}{}), digest, PredicateImage, "predicate type"},
		"an image signature where an SBOM is demanded": {good, digest, PredicateCycloneDX, "predicate type"},
		"a predicate type with a slash too many":       {good, digest, PredicateImage + "/", "predicate type"},
		"to check without a predicate type":            {good, digest, "", "predicate type"},
		"another subject":                              {good, sum([]byte("another")), PredicateImage, "subject"},
		"to check without a subject":                   {good, "", PredicateImage, "subject"},
		"a subject with its algorithm":                 {good, "sha256:" + digest, PredicateImage, "subject"},
		"an attestation by another key":                {attest(t, other, PredicateImage, struct{}{}), digest, PredicateImage, "key"},
		"another key that says it is ours":             {edit(t, attest(t, other, PredicateImage, struct{}{}), func(m map[string]any) { at(m, "verificationMaterial", "publicKey")["hint"] = s.KeyID() }), digest, PredicateImage, "signature"},
		"a signature over the file":                    {blob(t, s, artifact), digest, PredicateImage, "content"},
		"a flipped byte in the payload":                {change(func(e map[string]any) { flip(e, "payload") }), digest, PredicateImage, "signature"},
		"a flipped byte in the signature":              {change(func(e map[string]any) { flip(first(e), "sig") }), digest, PredicateImage, "signature"},
		"another key id in the envelope":               {change(func(e map[string]any) { first(e)["keyid"] = "x" }), digest, PredicateImage, "key"},
		"another payload type":                         {change(func(e map[string]any) { e["payloadType"] = "text/plain" }), digest, PredicateImage, "content"},
		"a signed payload of another type":             {seal(t, s, "text/plain", []byte("{}")), digest, PredicateImage, "content"},
		"a second signature beside the good one": {change(func(e map[string]any) {
			e["signatures"] = append(e["signatures"].([]any), map[string]any{"sig": "AAAA"})
		}), digest, PredicateImage, "signature"},
		"the good signature twice":             {change(func(e map[string]any) { e["signatures"] = append(e["signatures"].([]any), first(e)) }), digest, PredicateImage, "signature"},
		"no signature":                         {change(func(e map[string]any) { e["signatures"] = []any{} }), digest, PredicateImage, "signature"},
		"an empty signature":                   {change(func(e map[string]any) { first(e)["sig"] = "" }), digest, PredicateImage, "signature"},
		"a statement of another version":       {statement("https://in-toto.io/Statement/v0.1", `,"predicate":{}`), digest, PredicateImage, "content"},
		"a statement without a predicate":      {statement(statementType, ``), digest, PredicateImage, "content"},
		"a statement with an unknown field":    {statement(statementType, `,"predicate":{},"extra":1`), digest, PredicateImage, "content"},
		"a statement with two predicate types": {statement(statementType, `,"predicate":{},"predicateType":"x"`), digest, PredicateImage, "content"},
		"a signed payload that is no JSON":     {seal(t, s, bundle.IntotoMediaType, []byte("hello")), digest, PredicateImage, "content"},
		"an empty bundle":                      {nil, digest, PredicateImage, "size"},
		"a huge bundle":                        {make([]byte, maxAttestation+1), digest, PredicateImage, "size"},
	} {
		t.Run(name, func(t *testing.T) {
			predicate, err := s.verifier.Attestation(tt.bundle, tt.digest, tt.demand)
			wantRefusal(t, err, tt.what)
			if predicate != nil {
				t.Errorf("returned %s beside the error", predicate)
			}
		})
	}
	t.Run("everything when no evidence was named", func(t *testing.T) {
		_, err := new(Verifier).Attestation(good, digest, PredicateImage)
		wantRefusal(t, err, "key")
	})
}

func TestAttestationNamesEverySubject(t *testing.T) {
	s := newKey(t)
	second := sum([]byte("second"))
	b, err := s.Attest(ctx, Statement{[]Subject{{"a", digest}, {"b", second}}, PredicateProvenance, struct{}{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{digest, second} {
		if _, err := s.verifier.Attestation(b, d, PredicateProvenance); err != nil {
			t.Error(err)
		}
	}
}

// TestEveryFlippedBit flips each bit of a bundle in turn. What is accepted
// afterwards must say the same: such are the unused low bits in the last
// character of a base64 field, and nothing else.
func TestEveryFlippedBit(t *testing.T) {
	s := newKey(t)
	for name, tt := range map[string]struct {
		bundle []byte
		check  func(b []byte) error
	}{
		"signature over a file": {blob(t, s, artifact), func(b []byte) error { return s.verifier.Blob(artifact, b) }},
		"attestation": {attest(t, s, PredicateImage, struct{}{}), func(b []byte) error {
			_, err := s.verifier.Attestation(b, digest, PredicateImage)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tt.check(tt.bundle); err != nil {
				t.Fatal(err)
			}
			var harmless []string
			for i := range len(tt.bundle) * 8 {
				flipped := bytes.Clone(tt.bundle)
				flipped[i/8] ^= 1 << (i % 8)
				if tt.check(flipped) != nil {
					continue
				}
				if !equal(t, tt.bundle, flipped) {
					t.Errorf("accepted with another meaning after flipping bit %d of byte %d: %s", i%8, i/8, flipped)
				}
				if at := i/8 + 1; at >= len(flipped) || flipped[at] != '=' {
					t.Errorf("byte %d, %q, is no end of a base64 field: %s", i/8, flipped[i/8], flipped)
				}
				harmless = append(harmless, string(tt.bundle[i/8])+"→"+string(flipped[i/8]))
			}
			t.Logf("%d of %d flips change nothing: %s", len(harmless), len(tt.bundle)*8, strings.Join(harmless, " "))
		})
	}
}

func equal(t testing.TB, a, b []byte) bool {
	t.Helper()
	var x, y bundle.Bundle
	if err := errors.Join(x.UnmarshalJSON(a), y.UnmarshalJSON(b)); err != nil {
		t.Fatal(err)
	}
	return proto.Equal(x.Bundle, y.Bundle)
}

// TestVerifyingNeedsNoNetwork runs the tests of this package that sign and
// verify, cosign's among them, in a network namespace that has nothing, not
// even a working loopback.
func TestVerifyingNeedsNoNetwork(t *testing.T) {
	testenv.NeedRoot(t)
	cmd := exec.Command(os.Args[0], "-test.run=^(TestCosign|TestWeAccept|TestBlobSigns|TestAttest)", "-test.v")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "--- PASS"); n < 5 {
		t.Errorf("only %d tests ran:\n%s", n, out)
	}
}

// fuzzKey returns the same Signer in every process: fuzzing runs in several,
// which share their inputs.
func fuzzKey(f *testing.F) *Signer {
	f.Helper()
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{7}, 32))
	if err != nil {
		f.Fatal(err)
	}
	s, err := newSigner(private)
	if err != nil {
		f.Fatal(err)
	}
	return s
}

func FuzzBlob(f *testing.F) {
	s := fuzzKey(f)
	good := blob(f, s, artifact)
	f.Add(good)
	f.Add(attest(f, s, PredicateImage, struct{}{}))
	f.Add([]byte(`{"mediaType":"` + BundleMediaType + `"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s.verifier.Blob(artifact, b) == nil && !equal(t, good, b) {
			t.Errorf("accepted %s", b)
		}
		if s.verifier.Blob([]byte("another"), b) == nil {
			t.Errorf("accepted for another file: %s", b)
		}
	})
}

func FuzzAttestation(f *testing.F) {
	s := fuzzKey(f)
	good := attest(f, s, PredicateImage, map[string]string{"a": "b"})
	f.Add(good)
	f.Add(blob(f, s, artifact))
	f.Fuzz(func(t *testing.T, b []byte) {
		predicate, err := s.verifier.Attestation(b, digest, PredicateImage)
		if err == nil && (!equal(t, good, b) || cmp.Diff(`{"a":"b"}`, string(predicate)) != "") {
			t.Errorf("accepted %s", b)
		}
		if _, err := s.verifier.Attestation(b, digest, PredicateSPDX); err == nil {
			t.Errorf("accepted as another type: %s", b)
		}
	})
}

func BenchmarkBlob(b *testing.B) {
	s := newKey(b)
	for b.Loop() {
		blob(b, s, artifact)
	}
}

func BenchmarkVerifyBlob(b *testing.B) {
	s := newKey(b)
	signed := blob(b, s, artifact)
	for b.Loop() {
		if err := s.verifier.Blob(artifact, signed); err != nil {
			b.Fatal(err)
		}
	}
}
