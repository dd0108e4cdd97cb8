package sign

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var ctx = context.Background()

// artifact is what the tests sign; digest is its SHA-256.
var (
	artifact = []byte("an artifact\n")
	digest   = sum(artifact)
)

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func blob(t testing.TB, s *Signer, data []byte) []byte {
	t.Helper()
	b, err := s.Blob(ctx, data)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func attest(t testing.TB, s *Signer, predicateType string, predicate any) []byte {
	t.Helper()
	b, err := s.Attest(ctx, Statement{[]Subject{{"shop", digest}}, predicateType, predicate})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSigningTwiceGivesTheSameBundle(t *testing.T) {
	s := newKey(t)
	if a, b := blob(t, s, artifact), blob(t, s, artifact); !bytes.Equal(a, b) {
		t.Errorf("two blob bundles differ:\n%s\n%s", a, b)
	}
	predicate := map[string]string{"b": "2", "a": "1"}
	if a, b := attest(t, s, PredicateVerdict, predicate), attest(t, s, PredicateVerdict, predicate); !bytes.Equal(a, b) {
		t.Errorf("two attestations differ:\n%s\n%s", a, b)
	}
}

func TestBlobSignsAnything(t *testing.T) {
	s := newKey(t)
	for name, data := range map[string][]byte{
		"nothing":    nil,
		"a byte":     {0},
		"a megabyte": bytes.Repeat([]byte("x"), 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			if err := s.verifier.Blob(data, blob(t, s, data)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestManySignAndVerifyAtOnce(t *testing.T) {
	s := newKey(t)
	errs := make([]error, 16)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			data := []byte{byte(i)}
			b, err := s.Blob(ctx, data)
			errs[i] = errors.Join(err, s.verifier.Blob(data, b))
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

func TestNothingIsSignedAfterCancel(t *testing.T) {
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	s := newKey(t)
	if _, err := s.Blob(cancelled, artifact); !errors.Is(err, context.Canceled) {
		t.Errorf("Blob: %v", err)
	}
	if _, err := s.Attest(cancelled, Statement{[]Subject{{"a", digest}}, PredicateImage, struct{}{}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Attest: %v", err)
	}
}

func TestAttestKeepsThePredicate(t *testing.T) {
	s := newKey(t)
	// Numbers beyond 2^53, HTML and Unicode must come back as they went in.
	for name, predicate := range map[string]string{
		"a large number": `{"n":12345678901234567890}`,
		"markup":         `{"a":"<b>&</b>"}`,
		"other letters":  `{"a":"Größe 日本"}`,
		"nesting":        `{"a":{"b":[1,{"c":null}]}}`,
		"an empty one":   `{}`,
	} {
		t.Run(name, func(t *testing.T) {
			bundle := attest(t, s, PredicateVerdict, json.RawMessage(predicate))
			got, err := s.verifier.Attestation(bundle, digest, PredicateVerdict)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(decodeNumbers(t, []byte(predicate)), decodeNumbers(t, got)); d != "" {
				t.Error("(-want +got):\n" + d)
			}
		})
	}
}

func decodeNumbers(t *testing.T, raw []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestAttestRefuses(t *testing.T) {
	one := []Subject{{"shop", digest}}
	for name, tt := range map[string]struct {
		in   Statement
		want string
	}{
		"no subject":                  {Statement{nil, PredicateImage, struct{}{}}, "no subject"},
		"no predicate type":           {Statement{one, "", struct{}{}}, "no predicate type"},
		"no predicate":                {Statement{one, PredicateImage, nil}, "no JSON object"},
		"a predicate that is a list":  {Statement{one, PredicateImage, []int{1}}, "no JSON object"},
		"a predicate that is no JSON": {Statement{one, PredicateImage, json.RawMessage("{")}, "encoding the predicate"},
		"a predicate with a function": {Statement{one, PredicateImage, func() {}}, "encoding the predicate"},
		"a digest with its algorithm": {Statement{[]Subject{{"a", "sha256:" + digest}}, PredicateImage, struct{}{}}, "is no SHA-256"},
		"an upper-case digest":        {Statement{[]Subject{{"a", strings.ToUpper(digest)}}, PredicateImage, struct{}{}}, "is no SHA-256"},
	} {
		t.Run(name, func(t *testing.T) {
			if b, err := newKey(t).Attest(ctx, tt.in); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %s, %v; want %q", b, err, tt.want)
			}
		})
	}
}

func TestProvenance(t *testing.T) {
	in := ProvenanceInput{
		Main: "./app", Version: "v1.2.3", Commit: "0123abc", GoVersion: "go1.26.3",
		Parameters: map[string]string{"platform": "linux/amd64"},
		Materials:  []Subject{{"go.sum", digest}, {"go.mod", digest}},
	}
	got, err := json.Marshal(Provenance(in))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"buildDefinition":{"buildType":"` + BuildType + `",` +
		`"externalParameters":{"main":"./app","platform":"linux/amd64","version":"v1.2.3"},` +
		`"internalParameters":{"goVersion":"go1.26.3"},` +
		`"resolvedDependencies":[{"name":"source","digest":{"gitCommit":"0123abc"}},` +
		`{"name":"go.mod","digest":{"sha256":"` + digest + `"}},{"name":"go.sum","digest":{"sha256":"` + digest + `"}}]},` +
		`"runDetails":{"builder":{"id":"` + BuilderID + `"}}}`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error("(-want +got):\n" + d)
	}
	if len(in.Parameters) != 1 || in.Materials[0].Name != "go.sum" {
		t.Errorf("the caller's input was changed: %+v", in)
	}
	s := newKey(t)
	if _, err := s.verifier.Attestation(attest(t, s, PredicateProvenance, Provenance(in)), digest, PredicateProvenance); err != nil {
		t.Error(err)
	}
	if _, err := json.Marshal(Provenance(ProvenanceInput{})); err != nil {
		t.Error("of nothing:", err)
	}
}
