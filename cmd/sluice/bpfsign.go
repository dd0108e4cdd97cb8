package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/sign"
)

// passphraseVariable holds the passphrase of a private key.
const passphraseVariable = "SLUICE_PASSPHRASE"

func bpfSignCommand() *cobra.Command {
	var o options
	var key, newKey, bundle string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "sign OBJECT (--key cosign.key | --new-key DIR)", Short: "Sign an object with a key", Args: cobra.ExactArgs(1),
		Long: `Sign writes a Sigstore bundle v0.3 with a signature over the whole file beside
the object. cosign verify-blob accepts it. The passphrase of the key is taken from
SLUICE_PASSPHRASE. The same object and key give the same signature.`,
		Example: `  sluice bpf sign probe.bpf.o --new-key keys     the first time
  sluice bpf sign probe.bpf.o --key keys/cosign.key
  sluice bpf sign probe.bpf.o --key cosign.key --bundle signatures/probe.json -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			raw, spec, err := readObject(args[0])
			if err != nil {
				return err
			}
			path := bundleOf(args[0], bundle)
			if dryRun && newKey != "" {
				fmt.Fprintf(cmd.OutOrStdout(), "would make a key pair in %s and sign %s (%s) into %s\n", newKey, args[0], spec.Digest, path)
				return nil
			}
			signer, err := openSigner(key, newKey)
			if err != nil {
				return err
			}
			if dryRun {
				fmt.Fprintf(cmd.OutOrStdout(), "would sign %s (%s) with key %s into %s\n", args[0], spec.Digest, signer.KeyID(), path)
				return nil
			}
			signed, err := signer.Blob(cmd.Context(), raw)
			if err != nil {
				return err
			}
			if err := replaceFile(path, signed); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), signedReport{args[0], spec.Digest, spec.BTFDigest, "key " + signer.KeyID(), path})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s signed with key %s\nsignature  %s\n", args[0], signer.KeyID(), path)
			printDigests(cmd, spec)
			return nil
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "private key (cosign.key)")
	cmd.Flags().StringVar(&newKey, "new-key", "", "folder in which to make a key pair, cosign.key and cosign.pub, and sign with it")
	cmd.Flags().StringVar(&bundle, "bundle", "", "file for the signature (default: OBJECT.sigstore.json)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be signed, and write nothing")
	cmd.MarkFlagsOneRequired("key", "new-key")
	cmd.MarkFlagsMutuallyExclusive("key", "new-key")
	o.addFormat(cmd)
	return cmd
}

// openSigner opens a private key, or makes one.
func openSigner(key, newKey string) (*sign.Signer, error) {
	passphrase := []byte(os.Getenv(passphraseVariable))
	if newKey != "" {
		var err error
		if key, _, err = sign.GenerateKey(newKey, passphrase); err != nil {
			return nil, err
		}
	}
	signer, err := sign.OpenSigner(key, passphrase)
	if wrong := (*sign.PassphraseError)(nil); errors.As(err, &wrong) {
		return nil, &advised{err, "set " + passphraseVariable + " to the passphrase of " + key}
	}
	return signer, err
}

// signedReport is an object whose signature holds.
type signedReport struct {
	Object    string     `json:"object"`
	Digest    bpf.Digest `json:"digest"`
	BTFDigest bpf.Digest `json:"btf_digest,omitempty"`
	SignedBy  string     `json:"signed_by"`
	Bundle    string     `json:"bundle"`
}

func printDigests(cmd *cobra.Command, s *bpf.Spec) {
	fmt.Fprintf(cmd.OutOrStdout(), "object     %s\n", s.Digest)
	if s.BTFDigest != "" {
		fmt.Fprintf(cmd.OutOrStdout(), "BTF in it  %s\n", s.BTFDigest)
	}
}

func bpfVerifyCommand() *cobra.Command {
	var e evidence
	var bundle, format string
	var quiet bool
	cmd := &cobra.Command{
		Use: "verify OBJECT (--key cosign.pub | --certificate-identity WHO --certificate-oidc-issuer ISSUER --trusted-root FILE)", Short: "Verify who signed an object, without any network",
		Args: cobra.ExactArgs(1),
		Long: `Verify checks that the bundle is a signature over exactly this object, by the key,
or by the identity whose certificate an authority in the trusted root has issued.
Nothing is asked over the network: the trusted root is a file that was fetched
before, so an outage of a signing service stops nobody.

With -o digest only the digest is printed, for a process without privileges that
verifies an identity and binds sluice-probe to what it has verified.`,
		Example: `  sluice bpf verify probe.bpf.o --key cosign.pub
  sluice bpf verify probe.bpf.o --certificate-identity release@example.com \
      --certificate-oidc-issuer https://accounts.example.com --trusted-root trusted_root.json
  sluice-probe --object probe.bpf.o --digest "$(sluice bpf verify --quiet -o digest probe.bpf.o --key cosign.pub)"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "text" && format != "json" && format != "digest" {
				return fmt.Errorf("unknown output %q (known: text, json, digest)", format)
			}
			v, err := e.verifier()
			if err != nil {
				return err
			}
			raw, err := readFile("eBPF object", args[0], maxObject)
			if err != nil {
				return err
			}
			path := bundleOf(args[0], bundle)
			signature, err := readBundle(path)
			if err != nil {
				return err
			}
			if err := v.Blob(raw, signature); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			spec, err := bpf.ReadSpec(raw)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			switch {
			case format == "json":
				return printJSON(cmd.OutOrStdout(), signedReport{args[0], spec.Digest, spec.BTFDigest, e.who(v), path})
			case format == "digest":
				fmt.Fprintln(cmd.OutOrStdout(), spec.Digest)
			case !quiet:
				fmt.Fprintf(cmd.OutOrStdout(), "%s is signed by %s\n", args[0], e.who(v))
				printDigests(cmd, spec)
			}
			return nil
		},
	}
	e.add(cmd)
	cmd.Flags().StringVar(&bundle, "bundle", "", "file with the signature (default: OBJECT.sigstore.json)")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "print nothing but what -o asks for")
	cmd.Flags().StringVarP(&format, "output", "o", "text", "format of the result: text, json or digest")
	return cmd
}

// evidence says whose signature is demanded.
type evidence struct {
	key  string
	id   sign.Identity
	root string
}

func (e *evidence) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&e.key, "key", "", "public key of the signer (cosign.pub)")
	cmd.Flags().StringVar(&e.id.Subject, "certificate-identity", "", "identity of the signer, as in the certificate")
	cmd.Flags().StringVar(&e.id.SubjectRegexp, "certificate-identity-regexp", "", "pattern that has to match all of the identity")
	cmd.Flags().StringVar(&e.id.Issuer, "certificate-oidc-issuer", "", "who vouches for the identity")
	cmd.Flags().StringVar(&e.root, "trusted-root", "", "Sigstore's trusted_root.json, fetched before")
}

func (e *evidence) byIdentity() bool {
	return e.id != (sign.Identity{}) || e.root != ""
}

func (e *evidence) named() bool { return e.key != "" || e.byIdentity() }

func (e *evidence) verifier() (*sign.Verifier, error) {
	switch {
	case e.key != "" && e.byIdentity():
		return nil, errors.New("a key and an identity are two demands: name one of them")
	case e.key != "":
		return sign.OpenVerifier(e.key)
	case !e.byIdentity():
		return nil, &advised{errors.New("whose signature is it to be? none was named"), "give --key cosign.pub, or --certificate-identity, --certificate-oidc-issuer and --trusted-root"}
	case e.root == "":
		return nil, &advised{errors.New("an identity is verified against a trusted root, and none was given"), "fetch it once, for example with cosign trusted-root create or gh attestation trusted-root, keep the file, and name it with --trusted-root"}
	}
	return sign.OpenIdentityVerifier(e.root, e.id)
}

// who is the demanded signer, for people.
func (e *evidence) who(v *sign.Verifier) string {
	switch {
	case e.key != "":
		return "key " + v.KeyID()
	case e.id.Subject != "":
		return e.id.Subject + " (" + e.id.Issuer + ")"
	}
	return "somebody like " + e.id.SubjectRegexp + " (" + e.id.Issuer + ")"
}
