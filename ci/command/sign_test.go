package command

import (
	"strings"
	"testing"
)

func TestOneSigns(t *testing.T) {
	all := Given{Key: true, Passphrase: true, PublicKey: true}
	for name, tt := range map[string]struct {
		config string
		given  Given
		want   string // "" is no error
	}{
		"a pair that is made up":           {"name: shop", Given{}, ""},
		"a pair":                           {"name: shop", all, ""},
		"a pair of the file":               {"sign: {key: cosign.key}", all, ""},
		"an identity":                      {"sign: {keyless: {identity: me}}", Given{Token: true}, ""},
		"a file without its key":           {"sign:\n  key: my.key\n  passphrase_env: WORD", Given{}, "--key=file:my.key, --passphrase=env:WORD"},
		"an identity without a token":      {"sign: {keyless: {identity: me}}", Given{}, "--identity-token=env:SIGSTORE_ID_TOKEN"},
		"a key for an identity":            {"sign: {keyless: {identity: me}}", all, "in the place of a key"},
		"a token for a key":                {"sign: {key: cosign.key}", Given{Token: true}, "is for sign.keyless"},
		"a key and a token":                {"", Given{Key: true, Token: true}, "give one of them"},
		"a public key and a passphrase":    {"", Given{Passphrase: true, PublicKey: true}, "--key=file:cosign.key"},
		"a key without a passphrase":       {"", Given{Key: true, PublicKey: true}, "--passphrase=env:SLUICE_PASSPHRASE"},
		"a key without its public half":    {"", Given{Key: true, Passphrase: true}, "--public-key=cosign.pub"},
		"a public key alone":               {"", Given{PublicKey: true}, "--key is missing"},
		"a setting that is there and void": {"sign: {keyless: {}}", Given{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ParseSigning(tt.config)
			if err != nil {
				t.Fatal(err)
			}
			if err = s.Check(tt.given); tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want it to say %q", err, tt.want)
			}
		})
	}
	if s, err := ParseSigning("sign: ["); err == nil {
		t.Errorf("read %+v", s)
	}
}

func TestAKeyIsWhereSluiceLooksForIt(t *testing.T) {
	for key, want := range map[string]string{
		"": "/src/out/keys/cosign.key", "cosign.key": "/src/cosign.key", "../keys/a.key": "/keys/a.key", "/run/a.key": "/run/a.key",
	} {
		if got := (Signing{Key: key}).KeyFile("/src"); got != want {
			t.Errorf("sign.key %q: %s, want %s", key, got, want)
		}
	}
}
