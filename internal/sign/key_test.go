package sign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/sigstore/cosign/v2/pkg/cosign"
)

func TestGenerateKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out", "keys")
	key, pub, err := GenerateKey(dir, []byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{key: 0o600, pub: 0o644} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("mode of %s is %v, want %v", path, info.Mode(), want)
		}
	}
	if d := cmp.Diff([]string{"cosign.key", "cosign.pub"}, list(t, dir)); d != "" {
		t.Error("files (-want +got):\n" + d)
	}
	signer, err := OpenSigner(key, []byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(read(t, pub)), string(signer.PublicPEM())); d != "" {
		t.Error("public key (-file +signer):\n" + d)
	}
	verifier, err := OpenVerifier(pub)
	if err != nil {
		t.Fatal(err)
	}
	if verifier.KeyID() != signer.KeyID() || signer.KeyID() == "" {
		t.Errorf("key ids %q and %q", verifier.KeyID(), signer.KeyID())
	}
	t.Run("cosign opens the key too", func(t *testing.T) {
		if _, err := cosign.LoadPrivateKey(read(t, key), []byte("correct horse"), nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("a wrong passphrase is named with a hint", func(t *testing.T) {
		_, err := OpenSigner(key, []byte("wrong"))
		var wrong *PassphraseError
		if !errors.As(err, &wrong) || wrong.Path != key || !strings.Contains(wrong.Hint(), key) {
			t.Errorf("got %v, want a PassphraseError for %s", err, key)
		}
		if _, err := OpenSigner(key, nil); !errors.As(err, &wrong) {
			t.Errorf("without a passphrase: %v", err)
		}
	})
}

func TestGenerateKeyNeverOverwrites(t *testing.T) {
	for _, name := range []string{KeyFile, PubFile} {
		t.Run("an existing "+name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, name), []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, err := GenerateKey(dir, nil); !errors.Is(err, fs.ErrExist) {
				t.Errorf("got %v, want fs.ErrExist", err)
			}
			if got := string(read(t, filepath.Join(dir, name))); got != "precious" {
				t.Errorf("the file now holds %q", got)
			}
			if d := cmp.Diff([]string{name}, list(t, dir)); d != "" {
				t.Error("files (-want +got):\n" + d)
			}
		})
	}
	t.Run("a file that appears meanwhile", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := create(path, []byte("new"), 0o600); !errors.Is(err, fs.ErrExist) {
			t.Errorf("got %v, want fs.ErrExist", err)
		}
		if got := string(read(t, path)); got != "precious" {
			t.Errorf("the file now holds %q", got)
		}
	})
}

func TestOpenSignerRefuses(t *testing.T) {
	pass := []byte("p")
	seal := func(kind string, der []byte) []byte {
		box, err := encrypted.EncryptWithCustomKDFParameters(der, pass, encrypted.Legacy)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: box})
	}
	pkcs8 := func(key any, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	p256 := pkcs8(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	good := seal(cosign.CosignPrivateKeyPemType, p256)
	for name, tt := range map[string]struct {
		content []byte
		want    string // "" = accepted
	}{
		"nothing of an old cosign key":     {good, ""},
		"an empty file":                    {nil, "not a PEM file"},
		"a text file":                      {[]byte("hello"), "not a PEM file"},
		"a key that is not encrypted":      {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p256}), "want an"},
		"two keys in one file":             {append(good[:len(good):len(good)], good...), "more than one"},
		"a truncated key":                  {good[:len(good)/2], "not a PEM file"},
		"a key whose box is cut":           {pem.EncodeToMemory(&pem.Block{Type: cosign.SigstorePrivateKeyPemType, Bytes: []byte(`{"kdf":{`)}), "damaged"},
		"a box with something else inside": {seal(cosign.SigstorePrivateKeyPemType, []byte("no key")), "damaged"},
		"an RSA key":                       {seal(cosign.SigstorePrivateKeyPemType, pkcs8(rsa.GenerateKey(rand.Reader, 2048))), "want ECDSA P-256"},
		"a key on another curve":           {seal(cosign.SigstorePrivateKeyPemType, pkcs8(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))), "want ECDSA P-256"},
		"a file that is far too large":     {make([]byte, maxKeyBytes+1), "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, tt.content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := OpenSigner(path, pass)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("a file that is not there", func(t *testing.T) {
		if _, err := OpenSigner(filepath.Join(t.TempDir(), "absent"), pass); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
}

func TestNewVerifierRefuses(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&other.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	good := newKey(t).PublicPEM()
	for name, tt := range map[string]struct {
		pem  []byte
		want string
	}{
		"no key at all":          {nil, "not a PEM file"},
		"a private key":          {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"}), "want a \"PUBLIC KEY\""},
		"two keys":               {append(good[:len(good):len(good)], good...), "more than one"},
		"damaged bytes":          {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), "public key"},
		"a key on another curve": {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "want ECDSA P-256"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewVerifier(tt.pem); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// newKey returns a Signer with a key of its own, without the cost of a file.
func newKey(t testing.TB) *Signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func list(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
