package pipeline

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/sign"
)

// signer is the configured identity; or it opens the private key, from a file or
// the environment, or the key pair below the out folder, which is made the first
// time it is needed.
func (j Job) signer() (*sign.Signer, error) {
	cfg := j.Config.Sign
	if cfg.Keyless.Given() {
		return keyless(cfg.Keyless)
	}
	if cfg.Key != "" {
		return openKey(cfg.Key, cfg.PassphraseEnv, []byte(os.Getenv(cfg.PassphraseEnv)))
	}
	if raw, given := os.LookupEnv(cfg.KeyEnv); given {
		if raw == "" { // as GitHub gives a secret that is not there
			return nil, &NoKeyError{cfg.KeyEnv}
		}
		s, err := sign.ParseSigner([]byte(raw), "in $"+cfg.KeyEnv, []byte(os.Getenv(cfg.PassphraseEnv)))
		return s, explained(err, cfg.PassphraseEnv)
	}
	dir := filepath.Join(j.Out, "keys")
	pass, err := j.localPassphrase(dir)
	if err != nil {
		return nil, err
	}
	key := filepath.Join(dir, "cosign.key")
	if _, err := os.Stat(key); errors.Is(err, fs.ErrNotExist) {
		if _, _, err := sign.GenerateKey(dir, pass); err != nil {
			return nil, err
		}
	}
	return openKey(key, cfg.PassphraseEnv, pass)
}

// keyless is the identity that the environment gives to this process.
func keyless(cfg config.Keyless) (*sign.Signer, error) {
	token, err := sign.AmbientToken(os.Getenv)
	if err != nil {
		return nil, err
	}
	return sign.NewKeylessSigner(sign.Keyless{
		Identity: identity(cfg), TrustedRoot: cfg.TrustedRoot, Fulcio: cfg.Fulcio, Rekor: cfg.Log(), Timestamp: cfg.Timestamp,
	}, token)
}

func identity(cfg config.Keyless) sign.Identity {
	return sign.Identity{Subject: cfg.Identity, SubjectRegexp: cfg.IdentityRegexp, Issuer: cfg.Issuer}
}

// NoKeyError means that the variable for the private key is there, and empty.
type NoKeyError struct{ Env string }

func (e *NoKeyError) Error() string { return "the environment variable " + e.Env + " is empty" }

// Hint says what to do.
func (e *NoKeyError) Hint() string {
	return "put the private key (cosign.key) into the secret that it comes from, or unset the variable to sign with a key pair of this machine"
}

// KeyError means that a private key cannot be used with the passphrase that is
// in the environment.
type KeyError struct {
	Env string // the variable that holds the passphrase
	Err error
}

func (e *KeyError) Error() string { return e.Err.Error() }

func (e *KeyError) Unwrap() error { return e.Err }

// Hint names the variable.
func (e *KeyError) Hint() string {
	if os.Getenv(e.Env) == "" {
		return "put the passphrase of the key into the environment variable " + e.Env
	}
	return "the environment variable " + e.Env + " does not hold the passphrase that the key was made with"
}

func openKey(path, env string, pass []byte) (*sign.Signer, error) {
	s, err := sign.OpenSigner(path, pass)
	return s, explained(err, env)
}

// explained names the variable of a passphrase that does not fit.
func explained(err error, env string) error {
	var wrong *sign.PassphraseError
	if errors.As(err, &wrong) {
		return &KeyError{Env: env, Err: err}
	}
	return err
}

// localPassphrase is the configured passphrase, else one that is made up and
// kept beside the local key, readable by its owner only.
func (j Job) localPassphrase(dir string) ([]byte, error) {
	if pass := os.Getenv(j.Config.Sign.PassphraseEnv); pass != "" {
		return []byte(pass), nil
	}
	path := filepath.Join(dir, "passphrase")
	raw, err := os.ReadFile(path)
	if err == nil {
		return []byte(strings.TrimSpace(string(raw))), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the passphrase of the local key: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the local key: %w", err)
	}
	random := make([]byte, 24)
	_, _ = rand.Read(random) // never fails
	pass := []byte(hex.EncodeToString(random))
	if err := os.WriteFile(path, append(pass, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("writing the passphrase of the local key: %w", err)
	}
	return pass, nil
}

// verifier demands the identity, or opens the public key, that everything has to
// be signed with.
func (j Job) verifier() (*sign.Verifier, error) {
	cfg := j.Config.Sign
	switch {
	case cfg.Keyless.Given():
		return sign.OpenIdentityVerifier(cfg.Keyless.TrustedRoot, identity(cfg.Keyless))
	case cfg.PublicKey != "":
		return sign.OpenVerifier(cfg.PublicKey)
	case cfg.Key != "", os.Getenv(cfg.KeyEnv) != "":
		s, err := j.signer()
		if err != nil {
			return nil, err
		}
		return sign.NewVerifier(s.PublicPEM())
	}
	return sign.OpenVerifier(filepath.Join(j.Out, "keys", "cosign.pub"))
}

// bundlePath is where the signature of a file is.
func bundlePath(file string) string { return file + ".sigstore.json" }

// verified reads a file and its bundle and checks one against the other. What
// it returns is what was verified, not what may be in the file a moment later.
func verified(v *sign.Verifier, file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading signed file: %w", err)
	}
	bundle, err := os.ReadFile(bundlePath(file))
	if err != nil {
		return nil, fmt.Errorf("reading signature: %w", err)
	}
	if err := v.Blob(data, bundle); err != nil {
		return nil, fmt.Errorf("verifying %s: %w", file, err)
	}
	return data, nil
}
