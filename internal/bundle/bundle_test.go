package bundle_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/bundle"
	"github.com/sluice-cd/sluice/internal/sign"
)

// signed is a small object with a bundle made by package sign, and both
// verifiers of its key.
type signed struct {
	object, bundle []byte
	key            *ecdsa.PublicKey
	other          *sign.Verifier // of package sign
}

func newSigned(t testing.TB) signed {
	t.Helper()
	signer := newSigner(t)
	s := signed{object: []byte("\x7fELF a small object \x00\x01\x02")}
	var err error
	if s.bundle, err = signer.Blob(t.Context(), s.object); err != nil {
		t.Fatal(err)
	}
	if s.key, err = bundle.ParseKey(signer.PublicPEM()); err != nil {
		t.Fatal(err)
	}
	if s.other, err = sign.NewVerifier(signer.PublicPEM()); err != nil {
		t.Fatal(err)
	}
	return s
}

func newSigner(t testing.TB) *sign.Signer {
	t.Helper()
	key, _, err := sign.GenerateKey(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := sign.OpenSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func TestEveryBitOfAnObjectIsSigned(t *testing.T) {
	s := newSigned(t)
	if err := bundle.Verify(s.object, s.bundle, s.key); err != nil {
		t.Fatal(err)
	}
	for bit := range len(s.object) * 8 {
		changed := bytes.Clone(s.object)
		changed[bit/8] ^= 1 << (bit % 8)
		if err := bundle.Verify(changed, s.bundle, s.key); err == nil {
			t.Errorf("bit %d flipped: accepted", bit)
		}
	}
	for n := range s.object {
		if err := bundle.Verify(s.object[:n], s.bundle, s.key); err == nil {
			t.Errorf("cut to %d bytes: accepted", n)
		}
	}
	if err := bundle.Verify(append(bytes.Clone(s.object), 0), s.bundle, s.key); err == nil {
		t.Error("a byte too many: accepted")
	}
}

// TestEveryByteOfABundle changes each byte of a bundle to every other value:
// what is accepted is the same bundle in other words, and package sign accepts it,
// too.
func TestEveryByteOfABundle(t *testing.T) {
	s := newSigned(t)
	accepted := 0
	for at := range s.bundle {
		for value := range 256 {
			changed := bytes.Clone(s.bundle)
			if changed[at] = byte(value); bytes.Equal(changed, s.bundle) {
				continue
			}
			if bundle.Verify(s.object, changed, s.key) != nil {
				continue
			}
			accepted++
			if !sameJSON(changed, s.bundle) {
				t.Errorf("byte %d changed from %q to %q: accepted", at, s.bundle[at], byte(value))
			}
			if err := s.other.Blob(s.object, changed); err != nil {
				t.Errorf("byte %d changed from %q to %q: accepted here, but package sign says: %v", at, s.bundle[at], byte(value), err)
			}
		}
	}
	t.Logf("%d of %d changes accepted", accepted, len(s.bundle)*255)
}

func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// TestBothVerifiersAgree holds this package against package sign, which builds
// on Sigstore's own library.
func TestBothVerifiersAgree(t *testing.T) {
	s, stranger := newSigned(t), newSigned(t)
	id, err := bundle.KeyID(s.key)
	if err != nil {
		t.Fatal(err)
	}
	attestation, err := newSigner(t).Attest(t.Context(), sign.Statement{
		Subjects: []sign.Subject{{SHA256: strings.Repeat("0", 64)}}, PredicateType: sign.PredicateImage, Predicate: struct{}{},
	})
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, with string) []byte {
		if !strings.Contains(string(s.bundle), old) {
			t.Fatalf("no %q in %s", old, s.bundle)
		}
		return []byte(strings.Replace(string(s.bundle), old, with, 1))
	}
	sum := sha256.Sum256(s.object)
	digest := base64.StdEncoding.EncodeToString(sum[:])
	for name, tt := range map[string]struct {
		object, bundle []byte
		ok             bool
	}{
		"as it was signed":             {s.object, s.bundle, true},
		"with white space":             {s.object, append([]byte(" \n\t"), append(bytes.Clone(s.bundle), '\n')...), true},
		"an escaped letter":            {s.object, replace(`"SHA2_256"`, `"\u0053HA2_256"`), true},
		"another object":               {stranger.object[1:], s.bundle, false},
		"a bundle by another key":      {s.object, stranger.bundle, false},
		"the other's key named":        {s.object, bytes.Replace(stranger.bundle, hint(t, stranger.key), []byte(id), 1), false},
		"an attestation":               {s.object, attestation, false},
		"empty":                        {s.object, nil, false},
		"null":                         {s.object, []byte("null"), false},
		"an empty object":              {s.object, []byte("{}"), false},
		"text":                         {s.object, []byte("signed, honestly"), false},
		"cut off":                      {s.object, s.bundle[:len(s.bundle)-1], false},
		"twice":                        {s.object, append(bytes.Clone(s.bundle), s.bundle...), false},
		"text after the end":           {s.object, append(bytes.Clone(s.bundle), 'x'), false},
		"media type v0.2":              {s.object, replace("bundle.v0.3", "bundle.v0.2"), false},
		"media type v0.4":              {s.object, replace("bundle.v0.3", "bundle.v0.4"), false},
		"old form of the media type":   {s.object, replace("bundle.v0.3+json", "bundle+json;version=0.3"), false},
		"SHA-384":                      {s.object, replace("SHA2_256", "SHA2_384"), false},
		"no algorithm":                 {s.object, replace(`"algorithm":"SHA2_256",`, ""), false},
		"a certificate instead":        {s.object, replace(`"publicKey":{"hint":"`+id+`"}`, `"certificate":{"rawBytes":"AAAA"}`), false},
		"a certificate besides":        {s.object, replace(`"publicKey"`, `"certificate":{"rawBytes":"AAAA"},"publicKey"`), false},
		"a log entry":                  {s.object, replace(`"publicKey"`, `"tlogEntries":[{"logIndex":"1"}],"publicKey"`), false},
		"a timestamp":                  {s.object, replace(`"publicKey"`, `"timestampVerificationData":{},"publicKey"`), false},
		"an unknown field":             {s.object, replace(`"mediaType"`, `"note":"","mediaType"`), false},
		"a field twice":                {s.object, replace(`"mediaType"`, `"mediaType":"","mediaType"`), false},
		"a field inside twice":         {s.object, replace(`"hint"`, `"hint":"","hint"`), false},
		"both kinds of content":        {s.object, replace(`"messageSignature"`, `"dsseEnvelope":{},"messageSignature"`), false},
		"no hint":                      {s.object, replace(`"hint":"`+id+`"`, ""), false},
		"null for the hint":            {s.object, replace(`"`+id+`"`, "null"), false},
		"no signature":                 {s.object, replace(`"signature":"`, `"signature":"","x":"`), false},
		"the digest of nothing":        {s.object, replace(digest, base64.StdEncoding.EncodeToString(sha256.New().Sum(nil))), false},
		"a short digest":               {s.object, replace(digest, base64.StdEncoding.EncodeToString(sum[:16])), false},
		"a number for the digest":      {s.object, replace(`"`+digest+`"`, "7"), false},
		"not UTF-8":                    {s.object, replace("SHA2_256", "SHA2_256\xff"), false},
		"very large":                   {s.object, append(bytes.Clone(s.bundle), bytes.Repeat([]byte(" "), 1<<20)...), false},
		"a thousand brackets":          {s.object, bytes.Repeat([]byte("["), 1000), false},
		"a list around it":             {s.object, []byte("[" + string(s.bundle) + "]"), false},
		"a zero byte after the object": {append(bytes.Clone(s.object), 0), s.bundle, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := bundle.Verify(tt.object, tt.bundle, s.key)
			if (err == nil) != tt.ok {
				t.Errorf("here: %v, want ok = %v", err, tt.ok)
			}
			if err != nil && !errors.As(err, new(*bundle.VerifyError)) {
				t.Errorf("%T, want a *VerifyError", err)
			}
			if err := s.other.Blob(tt.object, tt.bundle); (err == nil) != tt.ok {
				t.Errorf("package sign: %v, want ok = %v", err, tt.ok)
			}
		})
	}
}

func hint(t *testing.T, key *ecdsa.PublicKey) []byte {
	t.Helper()
	id, err := bundle.KeyID(key)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(id)
}

// TestStricter: a thing can be said in one way only, whatever protobuf in JSON
// would take for the same.
func TestStricter(t *testing.T) {
	s := newSigned(t)
	for name, change := range map[string][2]string{
		"underscores in names":  {`"mediaType"`, `"media_type"`},
		"base64 without =":      {`="}}`, `"}}`},
		"base64 of URLs":        {"", ""},
		"an empty list of logs": {`"publicKey"`, `"tlogEntries":[],"publicKey"`},
		"capitals":              {`"mediaType"`, `"MediaType"`},
		"a line break":          {`"signature":"`, `"signature":"\n`},
	} {
		changed := []byte(strings.Replace(string(s.bundle), change[0], change[1], 1))
		if name == "base64 of URLs" {
			changed = bytes.ReplaceAll(bytes.ReplaceAll(bytes.ReplaceAll(s.bundle, []byte("+"), []byte("-")), []byte("/"), []byte("_")), []byte("application_vnd.dev.sigstore.bundle.v0.3-json"), []byte(bundle.MediaType))
		}
		if bytes.Equal(changed, s.bundle) {
			continue // there was nothing to change in this signature
		}
		if err := bundle.Verify(s.object, changed, s.key); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestKeys(t *testing.T) {
	s, other := newSigned(t), newSigned(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		keys []*ecdsa.PublicKey
		ok   bool
	}{
		"the key":                    {[]*ecdsa.PublicKey{s.key}, true},
		"an old key and the new":     {[]*ecdsa.PublicKey{other.key, s.key}, true},
		"another key":                {[]*ecdsa.PublicKey{other.key}, false},
		"none":                       {nil, false},
		"a key that is not there":    {[]*ecdsa.PublicKey{nil}, false},
		"a key of another curve":     {[]*ecdsa.PublicKey{&p384.PublicKey}, false},
		"the zero key":               {[]*ecdsa.PublicKey{{}}, false},
		"nobody's key and then it":   {[]*ecdsa.PublicKey{nil, s.key}, false},
		"the same key a second time": {[]*ecdsa.PublicKey{s.key, s.key}, true},
	} {
		if err := bundle.Verify(s.object, s.bundle, tt.keys...); (err == nil) != tt.ok {
			t.Errorf("%s: %v, want ok = %v", name, err, tt.ok)
		}
	}
}

func TestParseKeyAgrees(t *testing.T) {
	good := newSigner(t).PublicPEM()
	for name, tt := range map[string]struct {
		text []byte
		ok   bool
	}{
		"a key":            {good, true},
		"two keys":         {append(bytes.Clone(good), good...), false},
		"nothing":          {nil, false},
		"no PEM":           {[]byte("ssh-ed25519 AAAA"), false},
		"damaged":          {bytes.Replace(good, []byte("M"), []byte("N"), 1), false},
		"another PEM type": {bytes.ReplaceAll(good, []byte("PUBLIC KEY"), []byte("CERTIFICATE")), false},
	} {
		_, err := bundle.ParseKey(tt.text)
		_, signErr := sign.NewVerifier(tt.text)
		if (err == nil) != tt.ok || (signErr == nil) != tt.ok {
			t.Errorf("%s: here %v, package sign %v, want ok = %v", name, err, signErr, tt.ok)
		}
	}
}

// FuzzVerify looks for a bundle that is accepted here and not by package sign,
// or that does not name the object's digest.
func FuzzVerify(f *testing.F) {
	s := newSigned(f)
	f.Add(s.object, s.bundle)
	f.Add([]byte{}, []byte(`{"mediaType":"`+bundle.MediaType+`"}`))
	f.Add(s.object, bytes.ReplaceAll(s.bundle, []byte(":"), []byte(" : ")))
	f.Fuzz(func(t *testing.T, object, text []byte) {
		if bundle.Verify(object, text, s.key) != nil {
			return
		}
		if !bytes.Equal(object, s.object) {
			t.Errorf("an object that nobody signed: %q", object)
		}
		if err := s.other.Blob(object, text); err != nil {
			t.Errorf("accepted here, refused by package sign: %v", err)
		}
	})
}

func TestOnlyTheStandardLibrary(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, path := range imports(t, files) {
		if strings.Contains(strings.SplitN(path, "/", 2)[0], ".") {
			t.Errorf("imports %s", path)
		}
	}
}
