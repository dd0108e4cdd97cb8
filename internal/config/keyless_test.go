package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKeyless(t *testing.T) {
	const hello = "name: hello\nbuild: {main: ./app}\ndeploy: {local: {listen: 127.0.0.1:8080}}\n"
	full := func(more string) string {
		return hello + "sign: {keyless: {identity: release@acme.test, trusted_root: root.json" + more + "}}\n"
	}
	for name, tt := range map[string]struct {
		file    string
		problem string // "": none
	}{
		"who, and whom to believe":           {full(""), ""},
		"a pattern":                          {hello + "sign: {keyless: {identity_regexp: '.*@acme\\.test', trusted_root: root.json}}\n", ""},
		"services of one's own":              {full(", fulcio: http://127.0.0.1:5555, rekor: off, timestamp: https://tsa.acme.test/api/v1/timestamp"), ""},
		"nobody":                             {hello + "sign: {keyless: {trusted_root: root.json}}\n", "sign.keyless: does not say who signs"},
		"two":                                {full(", identity_regexp: a"), "sign.keyless.identity_regexp: is given, and identity as well"},
		"no pattern":                         {hello + "sign: {keyless: {identity_regexp: '(', trusted_root: root.json}}\n", "sign.keyless.identity_regexp: error parsing regexp"},
		"no root":                            {hello + "sign: {keyless: {identity: a}}\n", "sign.keyless.trusted_root: is missing"},
		"an empty root":                      {hello + "sign: {keyless: {identity: a, trusted_root: ''}}\n", "sign.keyless.trusted_root: is empty"},
		"no issuer":                          {full(", issuer: ''"), "sign.keyless.issuer: is empty"},
		"a key beside it":                    {hello + "sign: {key: cosign.key, keyless: {identity: a, trusted_root: root.json}}\n", "sign.key: is a key, but sign.keyless says"},
		"a public key beside it":             {hello + "sign: {public_key: cosign.pub, keyless: {identity: a, trusted_root: root.json}}\n", "sign.public_key: is a key"},
		"nobody who knows the time":          {full(", rekor: off"), "sign.keyless.rekor: is off, so nobody says when"},
		"an authority without a scheme":      {full(", fulcio: fulcio.acme.test"), `sign.keyless.fulcio: "fulcio.acme.test" is not the URL of a service`},
		"an authority with a password":       {full(", rekor: 'https://me:secret@log.acme.test'"), "sign.keyless.rekor: "},
		"a switch where a section is wanted": {hello + "sign: {keyless: true}\n", "sign.keyless: "},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse([]byte(tt.file), "sluice.yaml")
			switch {
			case tt.problem == "" && err != nil:
				t.Fatal(err)
			case tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem)):
				t.Fatalf("got %v, want %q", err, tt.problem)
			case tt.problem == "" && !c.Sign.Keyless.Given():
				t.Error("not given")
			}
		})
	}
}

func TestKeylessAsksSigstoreIfNobodyElseIsNamed(t *testing.T) {
	c, err := Parse([]byte("name: hello\nbuild: {main: ./app}\ndeploy: {local: {listen: 127.0.0.1:8080}}\n"+
		"sign: {keyless: {identity: a, trusted_root: /etc/root.json}}\n"), "sluice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Keyless{
		Identity: "a", Issuer: "https://token.actions.githubusercontent.com", TrustedRoot: "/etc/root.json",
		Fulcio: "https://fulcio.sigstore.dev", Rekor: "https://rekor.sigstore.dev",
	}
	if diff := cmp.Diff(want, c.Sign.Keyless); diff != "" {
		t.Error(diff)
	}
	if got := (Keyless{Rekor: "off"}).Log(); got != "" {
		t.Errorf("off is %q", got)
	}
}
