package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/internal/objects"
)

// passwordVariable holds the password for etcd.
const passwordVariable = "SLUICE_ETCD_PASSWORD"

// historyPlace is where a history of objects is read without a probe.
type historyPlace struct {
	place string
	opts  objects.Options
}

func (h *historyPlace) add(cmd *cobra.Command, usage string) {
	cmd.Flags().StringVar(&h.place, "history", "", usage)
	cmd.Flags().StringVar(&h.opts.CAFile, "etcd-ca", "", "PEM file with who vouches for etcd (default: those of the system)")
	cmd.Flags().StringVar(&h.opts.CertFile, "etcd-cert", "", "PEM file with our certificate for etcd")
	cmd.Flags().StringVar(&h.opts.KeyFile, "etcd-key", "", "PEM file with its key")
	cmd.Flags().StringVar(&h.opts.User, "etcd-user", "", "user of etcd; the password is taken from "+passwordVariable)
}

func (h *historyPlace) open() (*objects.History, error) {
	if dir, ok := strings.CutPrefix(h.place, "dir:"); ok {
		if _, err := os.Stat(dir); err != nil { // opening it would make it
			return nil, fmt.Errorf("opening the history of objects: %w", err)
		}
	}
	h.opts.Password = os.Getenv(passwordVariable)
	who, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("opening the history of objects: %w", err)
	}
	return objects.Open(h.place, "sluice on "+who, h.opts)
}

func bpfHistoryCommand() *cobra.Command {
	var o options
	var p probeTarget
	var h historyPlace
	cmd := &cobra.Command{
		Use: "history", Short: "Which objects were loaded, and how each did", Args: cobra.NoArgs,
		Long: `History lists the objects that a running sluice-probe knows; or, with --history,
everything that all nodes have said about each, from the directory or the etcd
where it is kept. Of each object the newest 200 events are kept, and of the older
ones those on which rests whether it is good or bad.`,
		Example: `  sluice bpf history
  sluice bpf history --history dir:/var/lib/sluice-probe
  sluice bpf history --history etcd:https://etcd-1:2379,https://etcd-2:2379 --etcd-ca ca.pem -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			if h.place == "" {
				return probeHistory(cmd, p, asJSON)
			}
			history, err := h.open()
			if err != nil {
				return err
			}
			defer history.Close()
			list, err := history.List(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				if list == nil {
					list = []objects.Entry{}
				}
				return printJSON(cmd.OutOrStdout(), list)
			}
			return printObjects(cmd.OutOrStdout(), list)
		},
	}
	p.add(cmd)
	h.add(cmd, "read it from dir:PATH or etcd:URL[,URL] in the place of a probe")
	o.addFormat(cmd)
	return cmd
}

func probeHistory(cmd *cobra.Command, p probeTarget, asJSON bool) error {
	client, err := p.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	known, err := client.Objects(cmd.Context())
	if err != nil {
		return p.explain(err)
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), known.History)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STORED\tOBJECT\tSIGNED\tSTATE")
	for _, object := range known.History {
		state := "–"
		switch {
		case object.Digest == known.Loaded.Digest:
			state = "running"
		case object.Bad != "":
			state = "bad: " + object.Bad
		case object.Good:
			state = "good"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", object.Time.Local().Format(time.DateTime), object.Digest, yesNo(object.Signed), state)
	}
	return w.Flush()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// printObjects shows each object and, below it, what was said of it.
func printObjects(out io.Writer, list []objects.Entry) error {
	if len(list) == 0 {
		fmt.Fprintln(out, "no objects yet")
		return nil
	}
	for _, e := range list {
		state := "not known to be good"
		if e.Good {
			state = "good"
		}
		fmt.Fprintf(out, "%s  %s\n", e.Digest, state)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, event := range e.Events {
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", event.Time.Local().Format(time.DateTime), event.Kind, event.By, event.Reason)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func bpfSwapCommand() *cobra.Command {
	var c change
	var h historyPlace
	cmd := &cobra.Command{
		Use: "swap DIGEST --history PLACE", Short: "Let a running probe take an object of the history", Args: cobra.ExactArgs(1),
		Long: `Swap takes an object with its signature out of the history, by digest or by the
first digits of it, and gives it to a running sluice-probe, as sluice bpf load does
with a file. An object that a node found bad is refused without --force.`,
		Example: `  sluice bpf swap sha256:5c02… --history dir:/var/lib/sluice-probe
  sluice bpf swap 5c02038 --history etcd:https://etcd-1:2379 --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			history, err := h.open()
			if err != nil {
				return err
			}
			defer history.Close()
			object, err := fromHistory(cmd.Context(), history, args[0], c.force)
			if err != nil {
				return err
			}
			return c.swap(cmd, object.Bytes, object.Bundle)
		},
	}
	c.add(cmd, "let the probe and its kernel verify the object, say what would be replaced, and replace nothing")
	h.add(cmd, "where the history is: dir:PATH or etcd:URL[,URL]")
	c.addForce(cmd)
	_ = cmd.MarkFlagRequired("history")
	return cmd
}

// fromHistory finds the one object whose digest begins like this.
func fromHistory(ctx context.Context, history *objects.History, digest string, force bool) (objects.Object, error) {
	list, err := history.List(ctx)
	if err != nil {
		return objects.Object{}, err
	}
	var found []objects.Entry
	for _, e := range list {
		if strings.HasPrefix(string(e.Digest), digest) || strings.HasPrefix(strings.TrimPrefix(string(e.Digest), "sha256:"), digest) {
			found = append(found, e)
		}
	}
	switch {
	case len(found) == 0:
		return objects.Object{}, &advised{fmt.Errorf("eBPF object %s: %w", digest, objects.ErrNotFound), "sluice bpf history lists the objects there are"}
	case len(found) > 1:
		return objects.Object{}, fmt.Errorf("eBPF object %s: %d objects begin like this, write more of the digest", digest, len(found))
	case found[0].Bundle == nil:
		return objects.Object{}, &judged{fmt.Errorf("eBPF object %s is not signed in the history", found[0].Digest), 5, "sign it and use sluice bpf load"}
	}
	if reason, bad := found[0].Bad(); bad && !force {
		err := fmt.Errorf("a node found eBPF object %s bad: %s", found[0].Digest, reason)
		return objects.Object{}, &judged{err, 1, "sluice bpf history says who and when; --force takes it all the same"}
	}
	return history.Get(ctx, found[0].Digest)
}
