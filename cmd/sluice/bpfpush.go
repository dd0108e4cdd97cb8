package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/image"
	"github.com/sluice-cd/sluice/internal/sign"
)

// place is where an object is distributed: a registry, or an OCI layout
// directory, written oci:DIR:TAG.
type place struct {
	dir, tag string // of a layout
	ref      string // in a registry
	insecure bool
	timeout  time.Duration
}

func (p *place) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.insecure, "insecure", false, "plain HTTP, for a registry on this machine")
	cmd.Flags().DurationVar(&p.timeout, "timeout", time.Minute, "for everything together")
}

func (p *place) parse(arg string) error {
	rest, layout := strings.CutPrefix(arg, "oci:")
	if !layout {
		p.ref = arg
		return nil
	}
	at := strings.LastIndex(rest, ":")
	if digest := strings.LastIndex(rest, ":sha256:"); digest > 0 {
		at = digest
	}
	if at <= 0 || at == len(rest)-1 {
		return fmt.Errorf("%q: want oci:DIRECTORY:TAG, or host[:port]/repository:tag", arg)
	}
	p.dir, p.tag = rest[:at], rest[at+1:]
	return nil
}

func (p *place) String() string {
	if p.ref != "" {
		return p.ref
	}
	return "oci:" + p.dir + ":" + p.tag
}

// pushReport is what was published.
type pushReport struct {
	Object string     `json:"object"`
	Digest bpf.Digest `json:"digest"`
	Image  string     `json:"image"`
	To     string     `json:"to"`
	Layout string     `json:"layout"`
}

func bpfPushCommand() *cobra.Command {
	var o options
	var e evidence
	var to place
	var bundle, layout, description, imageKey string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "push OBJECT REF", Short: "Publish a signed object as an OCI image", Args: cobra.ExactArgs(2),
		Long: `Push publishes an object with its signature: to a registry, or into an OCI layout
directory (oci:DIR:TAG). The image has the layout of bpfman's bytecode images, or
that of Inspektor Gadget; the signature is a referrer of it. The tag is set last,
so whoever sees it can verify what it names. With --image-key the image itself is
signed, too, for those who verify images (cosign verify).`,
		Example: `  sluice bpf push probe.bpf.o registry.example/team/probe:v1
  sluice bpf push probe.bpf.o registry.example/team/probe-gadget:v1 --layout gadget
  sluice bpf push probe.bpf.o oci:out/objects:v1 --key cosign.pub     verify it first`,
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			if err := to.parse(args[1]); err != nil {
				return err
			}
			raw, spec, err := readObject(args[0])
			if err != nil {
				return err
			}
			signature, err := readBundle(bundleOf(args[0], bundle))
			if err != nil {
				return err
			}
			if e.named() {
				v, err := e.verifier()
				if err != nil {
					return err
				}
				if err := v.Blob(raw, signature); err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
			}
			var signer *sign.Signer
			if imageKey != "" {
				if signer, err = openSigner(imageKey, ""); err != nil {
					return err
				}
			}
			object := signedObject{describeObject(filepath.Base(args[0]), description, raw, spec), signature, signer}
			ctx, cancel := context.WithTimeout(cmd.Context(), to.timeout)
			defer cancel()
			report := pushReport{Object: args[0], Digest: spec.Digest, To: to.String(), Layout: layout}
			if report.Image, err = object.publish(ctx, layout, to, dryRun); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), report)
			}
			done := "pushed"
			if dryRun {
				done = "would push"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s to %s\nimage   %s\nobject  %s\n", done, args[0], to.String(), report.Image, spec.Digest)
			return nil
		},
	}
	e.add(cmd)
	to.add(cmd)
	cmd.Flags().StringVar(&bundle, "bundle", "", "file with the signature (default: OBJECT.sigstore.json)")
	cmd.Flags().StringVar(&imageKey, "image-key", "", "private key to sign the image with, too")
	cmd.Flags().StringVar(&layout, "layout", image.LayoutBPFMan, "layout of the image: bpfman or gadget")
	cmd.Flags().StringVar(&description, "description", "", "what the object is for, for people")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be pushed, and push nothing")
	o.addFormat(cmd)
	return cmd
}

// signedObject is an object with its signature, to be published.
type signedObject struct {
	image.EBPF
	signature []byte
	signer    *sign.Signer // of the image; nil: the image is not signed
}

// publish makes the image in a folder of its own and sends it from there.
func (s signedObject) publish(ctx context.Context, layout string, to place, dryRun bool) (digest string, err error) {
	img, err := s.Image(layout)
	if err != nil {
		return "", err
	}
	if dryRun {
		hash, err := img.Digest()
		return hash.String(), err
	}
	dir, tag := to.dir, "" // a layout is tagged last
	if to.ref != "" {
		if dir, err = os.MkdirTemp("", "sluice-push-*"); err != nil {
			return "", fmt.Errorf("pushing to %s: %w", to.ref, err)
		}
		defer os.RemoveAll(dir)
		dir, tag = filepath.Join(dir, "oci"), "pushed"
	}
	l, err := image.OpenLayout(dir)
	if err != nil {
		return "", err
	}
	if digest, err = l.Write(img, tag); err != nil {
		return "", err
	}
	if _, err := l.AttachBundle(digest, s.signature); err != nil {
		return "", err
	}
	if s.signer != nil {
		vouched, err := s.signer.Attest(ctx, sign.Statement{
			Subjects:      []sign.Subject{{Name: to.String(), SHA256: strings.TrimPrefix(digest, "sha256:")}},
			PredicateType: sign.PredicateImage, Predicate: struct{}{},
		})
		if err != nil {
			return "", err
		}
		if _, err := l.AttachBundle(digest, vouched); err != nil {
			return "", err
		}
	}
	if to.ref == "" {
		return digest, l.Tag(digest, to.tag)
	}
	return image.Push(ctx, l, tag, to.ref, image.PushOptions{Insecure: to.insecure, Timeout: to.timeout})
}

// describeObject gives an object the labels that others look for.
func describeObject(name, description string, raw []byte, s *bpf.Spec) image.EBPF {
	e := image.EBPF{Name: name, Description: description, Object: raw, Programs: map[string]string{}, Maps: map[string]string{}}
	for _, p := range s.Programs {
		e.Programs[p.Name] = snakeCase(p.Type)
	}
	for _, m := range s.Maps {
		e.Maps[m.Name] = snakeCase(m.Type)
	}
	return e
}

// snakeCase spells types as bpfman does: PerCPUArray is per_cpu_array.
func snakeCase(s string) string {
	for _, word := range []string{"CGroup", "CPU", "SKB", "LRU", "LPM", "XDP", "LSM", "LWT"} {
		s = strings.ReplaceAll(s, word, word[:1]+strings.ToLower(word[1:]))
	}
	var b strings.Builder
	for i, r := range s {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
