package command

import (
	"errors"
	"fmt"
	"path"

	"go.yaml.in/yaml/v3"
)

// Signing is what sluice.yaml says about who signs.
type Signing struct {
	Key           string // sign.key, relative to the file; empty: none
	PassphraseEnv string // the variable that opens it
	Keyless       bool   // an identity signs
}

// ParseSigning reads that part of sluice.yaml. Whether the rest is right is for
// sluice to say.
func ParseSigning(config string) (Signing, error) {
	var file struct {
		Sign struct {
			Key           string    `yaml:"key"`
			PassphraseEnv string    `yaml:"passphrase_env"`
			Keyless       yaml.Node `yaml:"keyless"`
		} `yaml:"sign"`
	}
	if err := yaml.Unmarshal([]byte(config), &file); err != nil {
		return Signing{}, fmt.Errorf("reading sluice.yaml: %w", err)
	}
	s := Signing{file.Sign.Key, file.Sign.PassphraseEnv, len(file.Sign.Keyless.Content) > 0}
	if s.PassphraseEnv == "" {
		s.PassphraseEnv = "SLUICE_PASSPHRASE"
	}
	return s, nil
}

// KeyFile is where sluice looks for the private key, below the folder of sluice.yaml.
func (s Signing) KeyFile(root string) string {
	switch {
	case s.Key == "":
		return path.Join(root, "out/keys/cosign.key")
	case path.IsAbs(s.Key):
		return s.Key
	}
	return path.Join(root, s.Key)
}

// Given says which of the arguments about signing there are.
type Given struct{ Key, Passphrase, PublicKey, Token bool }

// Check refuses what cannot sign: half a key pair, for a private key is of no use
// without its passphrase, and what it signs cannot be verified without the public
// key; and a key where sluice.yaml wants an identity, or the other way round.
func (s Signing) Check(g Given) error {
	key := g.Key || g.Passphrase || g.PublicKey
	switch {
	case g.Token && key:
		return errors.New("--identity-token and a key are two who sign: give one of them")
	case s.Keyless && key:
		return errors.New("sluice.yaml says that an identity signs (sign.keyless): give --identity-token in the place of a key, for example --identity-token=env:SIGSTORE_ID_TOKEN")
	case s.Keyless && !g.Token:
		return errors.New("sluice.yaml says that an identity signs (sign.keyless), and an engine has none: give its token, for example --identity-token=env:SIGSTORE_ID_TOKEN")
	case g.Token && !s.Keyless:
		return errors.New("--identity-token is for sign.keyless, which sluice.yaml does not have")
	case s.Key != "" && !key:
		return fmt.Errorf("sluice.yaml signs with %s (sign.key), and keys do not go along with the source: give --key=file:%[1]s, --passphrase=env:%s and --public-key", s.Key, s.PassphraseEnv)
	case key && !g.Key:
		return errors.New("--key is missing: give the private key, too, for example --key=file:cosign.key")
	case key && !g.Passphrase:
		return errors.New("--passphrase is missing: give the passphrase of --key, for example --passphrase=env:SLUICE_PASSPHRASE")
	case key && !g.PublicKey:
		return errors.New("--public-key is missing: give the other half of --key, for example --public-key=cosign.pub")
	}
	return nil
}
