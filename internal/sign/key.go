package sign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/sigstore/cosign/v2/pkg/cosign"
)

// Names of the files of a key pair.
const (
	KeyFile = "cosign.key"
	PubFile = "cosign.pub"
)

// PassphraseError says that a private key could not be decrypted.
type PassphraseError struct {
	Path string // of the key
}

func (e *PassphraseError) Error() string {
	return fmt.Sprintf("opening key %s: wrong passphrase", e.Path)
}

// Hint says what to try.
func (e *PassphraseError) Hint() string {
	return fmt.Sprintf("give the passphrase that %s was created with (a key file that was changed afterwards looks the same)", e.Path)
}

// GenerateKey makes a key pair (ECDSA P-256) in dir, which is created if it is
// missing, and returns the paths of its two files: cosign.key, encrypted with
// the passphrase and readable by its owner only, and cosign.pub. It never
// overwrites either file: if one exists, the error is fs.ErrExist and nothing
// is changed. An empty passphrase is allowed, as cosign allows it, and
// protects nothing.
func GenerateKey(dir string, passphrase []byte) (keyPath, pubPath string, err error) {
	keyPath, pubPath = filepath.Join(dir, KeyFile), filepath.Join(dir, PubFile)
	for _, p := range []string{keyPath, pubPath} {
		if _, err := os.Lstat(p); err == nil {
			return "", "", fmt.Errorf("generating key: %s: %w", p, fs.ErrExist)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", "", fmt.Errorf("generating key: %w", err)
		}
	}
	pair, err := cosign.GenerateKeyPair(func(bool) ([]byte, error) { return passphrase, nil })
	if err != nil {
		return "", "", fmt.Errorf("generating key: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", fmt.Errorf("generating key: %w", err)
	}
	if err := create(keyPath, pair.PrivateBytes, 0o600); err != nil {
		return "", "", fmt.Errorf("generating key: %w", err)
	}
	if err := create(pubPath, pair.PublicBytes, 0o644); err != nil {
		return "", "", errors.Join(fmt.Errorf("generating key: %w", err), os.Remove(keyPath))
	}
	return keyPath, pubPath, nil
}

// create writes a file that did not exist, wholly or not at all.
func create(path string, content []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	return os.Link(tmp.Name(), path) // fails, unlike a rename, if path exists
}

// OpenSigner returns a Signer with the private key in keyPath: a cosign key
// (ECDSA P-256) encrypted with the passphrase. A wrong passphrase is a
// *PassphraseError. Opening costs about 0.2 CPU seconds, the price of guessing
// a passphrase: keep the Signer.
func OpenSigner(keyPath string, passphrase []byte) (*Signer, error) {
	raw, err := readLimited(keyPath)
	if err != nil {
		return nil, fmt.Errorf("opening key: %w", err)
	}
	return ParseSigner(raw, keyPath, passphrase)
}

// ParseSigner is OpenSigner for a key that is in memory; name is what errors call
// it.
func ParseSigner(raw []byte, name string, passphrase []byte) (*Signer, error) {
	private, err := decrypt(raw, passphrase)
	var wrong *PassphraseError
	if errors.As(err, &wrong) {
		wrong.Path = name
		return nil, wrong
	}
	if err != nil {
		return nil, fmt.Errorf("opening key %s: %w", name, err)
	}
	s, err := newSigner(private)
	if err != nil {
		return nil, fmt.Errorf("opening key %s: %w", name, err)
	}
	return s, nil
}

func decrypt(raw, passphrase []byte) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode(raw)
	switch {
	case block == nil:
		return nil, errors.New("not a PEM file")
	case block.Type != cosign.SigstorePrivateKeyPemType && block.Type != cosign.CosignPrivateKeyPemType:
		return nil, fmt.Errorf("holds a %q, want an %q as cosign generate-key-pair makes it", block.Type, cosign.SigstorePrivateKeyPemType)
	case len(bytes.TrimSpace(rest)) != 0:
		return nil, errors.New("holds more than one key")
	}
	der, err := encrypted.Decrypt(block.Bytes, passphrase)
	if err != nil {
		if strings.Contains(err.Error(), "decryption failed") { // the library has no type for it
			return nil, &PassphraseError{}
		}
		return nil, fmt.Errorf("damaged: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("damaged: %w", err)
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() {
		return nil, fmt.Errorf("holds a %T, want ECDSA P-256", key)
	}
	return private, nil
}

// parsePublic reads one PEM-encoded ECDSA P-256 public key.
func parsePublic(raw []byte) (*ecdsa.PublicKey, error) {
	block, rest := pem.Decode(raw)
	switch {
	case block == nil:
		return nil, errors.New("not a PEM file")
	case block.Type != "PUBLIC KEY":
		return nil, fmt.Errorf("holds a %q, want a \"PUBLIC KEY\"", block.Type)
	case len(bytes.TrimSpace(rest)) != 0:
		return nil, errors.New("holds more than one key")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	public, ok := key.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, fmt.Errorf("holds a %T, want ECDSA P-256", key)
	}
	return public, nil
}

// keyID names a public key in a bundle, as cosign does: the base64 of the
// SHA-256 of its PKIX encoding.
func keyID(public *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyBytes+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxKeyBytes {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxKeyBytes)
	}
	return raw, nil
}
