package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/image"
)

// pullReport is what was taken.
type pullReport struct {
	Object   string     `json:"object"`
	Digest   bpf.Digest `json:"digest"`
	Image    string     `json:"image"`
	From     string     `json:"from"`
	Layout   string     `json:"layout"`
	SignedBy string     `json:"signed_by"`
	Bundle   string     `json:"bundle"`
}

func bpfPullCommand() *cobra.Command {
	var o options
	var e evidence
	var from place
	var to, want string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "pull REF (--key cosign.pub | --certificate-identity WHO …)", Short: "Take an object from a registry, if its signature holds", Args: cobra.ExactArgs(1),
		Long: `Pull takes an object from a registry or from an OCI layout directory, in bpfman's
or Inspektor Gadget's layout. Every part has to have the digest by which it is
named, and one of the image's signatures has to be by the demanded signer over
exactly this object. Only then a file is written, and its signature beside it.`,
		Example: `  sluice bpf pull registry.example/team/probe:v1 --key cosign.pub
  sluice bpf pull oci:out/objects:v1 --key cosign.pub --to /var/lib/probe.bpf.o
  sluice bpf pull registry.example/team/probe:v1 --key cosign.pub --digest sha256:5c02…`,
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			if err := from.parse(args[0]); err != nil {
				return err
			}
			got, err := fetch(cmd.Context(), from, e)
			if err != nil {
				return err
			}
			if want != "" && want != string(got.spec.Digest) {
				return fmt.Errorf("pulling %s: %w", from.String(), &bpf.DigestError{Want: bpf.Digest(want), Got: got.spec.Digest})
			}
			if to == "" {
				to = got.Name
			}
			report := pullReport{to, got.spec.Digest, got.Digest, from.String(), got.Layout, got.signer, bundleOf(to, "")}
			if !dryRun {
				if err := errors.Join(replaceFile(report.Bundle, got.bundle), replaceFile(to, got.Object)); err != nil {
					return err
				}
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), report)
			}
			done := "pulled"
			if dryRun {
				done = "would pull"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s from %s\nsigned by  %s\nimage      %s\n", done, to, report.From, report.SignedBy, report.Image)
			printDigests(cmd, got.spec)
			return nil
		},
	}
	e.add(cmd)
	from.add(cmd)
	cmd.Flags().StringVar(&to, "to", "", "file to write (default: the name that the image has for it, in this folder)")
	cmd.Flags().StringVar(&want, "digest", "", "digest that the object must have")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "verify it, and write nothing")
	o.addFormat(cmd)
	return cmd
}

// fetched is an object that was verified.
type fetched struct {
	image.StoredEBPF
	spec   *bpf.Spec
	bundle []byte // of its bundles, the one that holds
	signer string
}

// fetch reads an object from a registry or a layout and verifies it.
func fetch(ctx context.Context, from place, e evidence) (fetched, error) {
	v, err := e.verifier()
	if err != nil {
		return fetched{}, err
	}
	var got fetched
	if from.ref != "" {
		got.StoredEBPF, err = image.PullEBPF(ctx, from.ref, runtime.GOARCH, image.PullOptions{Insecure: from.insecure, Timeout: from.timeout})
	} else {
		got.StoredEBPF, err = readLayout(from)
	}
	if err != nil {
		return fetched{}, err
	}
	var refusals []error
	for _, b := range got.Bundles {
		err := v.Blob(got.Object, b)
		if err == nil {
			got.bundle, got.signer = b, e.who(v)
			break
		}
		refusals = append(refusals, err)
	}
	switch {
	case len(got.Bundles) == 0:
		return fetched{}, &judged{fmt.Errorf("pulling %s: the object is not signed", from.String()), 5, "publish it with its signature: sluice bpf push"}
	case got.bundle == nil:
		return fetched{}, fmt.Errorf("pulling %s: %w", from.String(), errors.Join(refusals...))
	}
	if got.spec, err = bpf.ReadSpec(got.Object); err != nil {
		return fetched{}, fmt.Errorf("pulling %s: %w", from.String(), err)
	}
	return got, nil
}

func readLayout(from place) (image.StoredEBPF, error) {
	if _, err := os.Stat(filepath.Join(from.dir, "oci-layout")); err != nil {
		return image.StoredEBPF{}, fmt.Errorf("pulling %s: no OCI layout there: %w", from.String(), err)
	}
	l, err := image.OpenLayout(from.dir)
	if err != nil {
		return image.StoredEBPF{}, err
	}
	return l.ReadEBPF(from.tag, runtime.GOARCH)
}
