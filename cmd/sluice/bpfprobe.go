package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/wire"
)

// probeTarget is how to reach a running sluice-probe.
type probeTarget struct {
	target string
	conf   wire.Config
}

func (p *probeTarget) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.target, "probe", "unix:/run/sluice-probe.sock", "the sluice-probe: unix:PATH or https://HOST:PORT")
	cmd.Flags().StringVar(&p.conf.Certificate, "client-cert", "", "PEM file with our certificate, for https://")
	cmd.Flags().StringVar(&p.conf.Key, "client-key", "", "PEM file with its key")
	cmd.Flags().StringVar(&p.conf.Authorities, "ca", "", "PEM file with who vouches for the probe (default: those of the system)")
	cmd.Flags().StringVar(&p.conf.Server, "server-name", "", "SPIFFE id or DNS name that the probe must have (default: the host)")
	cmd.Flags().DurationVar(&p.conf.Timeout, "timeout", 0, "for one request (default: 5s to read, 30s to change something)")
}

func (p *probeTarget) dial() (*wire.Client, error) { return wire.Dial(p.target, p.conf) }

// explain adds to an error of a probe what it means here.
func (p *probeTarget) explain(err error) error {
	var answer *wire.Error
	var dial *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer):
		status := map[int]int{
			http.StatusForbidden: 5, http.StatusConflict: 1, http.StatusUnprocessableEntity: 1,
			http.StatusServiceUnavailable: exitTransient, http.StatusTooManyRequests: exitTransient,
		}[answer.Status]
		if status == 0 {
			status = exitUsage
		}
		return &judged{error: fmt.Errorf("%s: %w", p.target, err), status: status}
	case errors.As(err, &dial) && errors.Is(err, syscall.ENOENT):
		return &advised{fmt.Errorf("%s: %w", p.target, err), "is sluice-probe running? name its socket or address with --probe"}
	case errors.As(err, &dial) && errors.Is(err, syscall.EACCES):
		return &advised{fmt.Errorf("%s: %w", p.target, err), "only root, and the user of --writer-uid, may write to the socket"}
	}
	return fmt.Errorf("%s: %w", p.target, err)
}

func bpfListCommand() *cobra.Command {
	var o options
	var p probeTarget
	cmd := &cobra.Command{
		Use: "list", Short: "What a running probe has loaded", Args: cobra.NoArgs,
		Long: `List shows the programs that a running sluice-probe counts with: the kernel's id
and tag for each, and where it is attached. The probe itself checks all the time
that exactly these are there.`,
		Example: `  sluice bpf list
  sluice bpf list --probe https://node-7:9465 --client-cert me.pem --client-key me.key -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			client, err := p.dial()
			if err != nil {
				return err
			}
			defer client.Close()
			objects, err := client.Objects(cmd.Context())
			if err != nil {
				return p.explain(err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), objects.Loaded)
			}
			return printLoaded(cmd.OutOrStdout(), objects.Loaded)
		},
	}
	p.add(cmd)
	o.addFormat(cmd)
	return cmd
}

func printLoaded(out io.Writer, l bpf.Loaded) error {
	fmt.Fprintf(out, "object %s\n", l.Digest)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PROGRAM\tID\tTAG\tLINK\tATTACHED TO")
	for _, p := range l.Programs {
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\n", p.Name, p.ID, p.Tag, p.LinkID, p.AttachedTo)
	}
	return w.Flush()
}

func bpfLoadCommand() *cobra.Command {
	var c change
	var e evidence
	var from place
	var bundle string
	cmd := &cobra.Command{
		Use: "load (OBJECT | REF)", Short: "Give an object to a running probe", Args: cobra.ExactArgs(1),
		Long: `Load gives a signed object to a running sluice-probe: a file, or an image in a
registry or an OCI layout directory (oci:DIR:TAG). The probe verifies the signature
with its own key, lets the kernel verify the programs, and puts them in the place
of the running ones, each in one step: no request is missed. Its counters stay.

An object that was found bad (rolled back, by the probe or a person) is refused
without --force, and so is any while the history of objects cannot be read or
written: whether it is good or bad could not be recorded. With --dry-run the
probe does all of this, too, but puts nothing in place and writes no history.

An image is verified here, too, before it is sent; so is a file if a key or an
identity is named.`,
		Example: `  sluice bpf load probe.bpf.o
  sluice bpf load registry.example/team/probe:v2 --key cosign.pub
  sluice bpf load probe.bpf.o --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			from.timeout = time.Minute
			raw, signature, err := objectToLoad(cmd.Context(), args[0], bundle, from, e)
			if err != nil {
				return err
			}
			return c.swap(cmd, raw, signature)
		},
	}
	c.add(cmd, "let the probe and its kernel verify the object, say what would be replaced, and replace nothing")
	c.addForce(cmd)
	e.add(cmd)
	cmd.Flags().StringVar(&bundle, "bundle", "", "file with the signature of a file (default: OBJECT.sigstore.json)")
	cmd.Flags().BoolVar(&from.insecure, "insecure", false, "plain HTTP, for a registry on this machine")
	return cmd
}

// objectToLoad reads a file if there is one of that name, else an image.
func objectToLoad(ctx context.Context, arg, bundle string, from place, e evidence) (raw, signature []byte, err error) {
	if _, err := os.Stat(arg); err != nil && (strings.HasPrefix(arg, "oci:") || strings.Contains(arg, "/") && !strings.HasSuffix(arg, ".o")) {
		if err := from.parse(arg); err != nil {
			return nil, nil, err
		}
		got, err := fetch(ctx, from, e)
		return got.Object, got.bundle, err
	}
	if raw, _, err = readObject(arg); err != nil {
		return nil, nil, err
	}
	if signature, err = readBundle(bundleOf(arg, bundle)); err != nil {
		return nil, nil, err
	}
	if !e.named() {
		return raw, signature, nil
	}
	v, err := e.verifier()
	if err != nil {
		return nil, nil, err
	}
	if err := v.Blob(raw, signature); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", arg, err)
	}
	return raw, signature, nil
}

// change is what commands share that change what a probe runs.
type change struct {
	options
	probe         probeTarget
	dryRun, force bool
}

func (c *change) add(cmd *cobra.Command, dryRun string) {
	c.probe.add(cmd)
	c.addFormat(cmd)
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, dryRun)
}

func (c *change) addForce(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.force, "force", false, "take an object, too, that was found bad, or of which that cannot be known or recorded")
}

// swap checks an object against the built-in rules and sends it.
func (c *change) swap(cmd *cobra.Command, raw, signature []byte) error {
	asJSON, err := c.json()
	if err != nil {
		return err
	}
	if _, err := check("the object", raw, bpf.DefaultRules(), false); err != nil {
		return err
	}
	client, err := c.probe.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	result, err := client.SwapAs(cmd.Context(), wire.SwapRequest{
		Object: raw, Bundle: signature, Digest: bpf.DigestOf(raw), Force: c.force, DryRun: c.dryRun,
	})
	if err != nil {
		return c.probe.explain(err)
	}
	if c.dryRun && !asJSON {
		fmt.Fprintf(cmd.OutOrStdout(), "would replace %s by %s: signature, rules and layout are right, and the probe's kernel has verified it\n", result.Previous, result.Digest)
		return nil
	}
	return printSwap(cmd, result, asJSON)
}

func printSwap(cmd *cobra.Command, r wire.SwapResult, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), r)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "running  %s\nbefore   %s\nreplaced in %v\n", r.Digest, r.Previous, r.Took.Round(time.Microsecond))
	return nil
}

func bpfRollbackCommand() *cobra.Command {
	var c change
	cmd := &cobra.Command{
		Use: "rollback", Short: "Let a running probe go back to its last good object", Args: cobra.NoArgs,
		Long: `Rollback puts the object that was found good most recently, and is not the running
one, in the place of the running one. The probe does the same by itself when what
is in the kernel is not what was verified, or when an object makes connections
worse.`,
		Example: `  sluice bpf rollback --dry-run
  sluice bpf rollback`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := c.json()
			if err != nil {
				return err
			}
			client, err := c.probe.dial()
			if err != nil {
				return err
			}
			defer client.Close()
			if c.dryRun {
				objects, err := client.Objects(cmd.Context())
				if err != nil {
					return c.probe.explain(err)
				}
				return printRollback(cmd.OutOrStdout(), objects)
			}
			result, err := client.Rollback(cmd.Context())
			if err != nil {
				return c.probe.explain(err)
			}
			return printSwap(cmd, result, asJSON)
		},
	}
	c.add(cmd, "say which object it would be, and replace nothing")
	return cmd
}

// printRollback names the candidate: good objects of the history, newest first.
func printRollback(w io.Writer, o wire.Objects) error {
	for _, object := range o.History {
		if object.Good && object.Bad == "" && object.Digest != o.Loaded.Digest {
			fmt.Fprintf(w, "would replace %s by the last good object, %s as far as can be seen here\n", o.Loaded.Digest, object.Digest)
			return nil
		}
	}
	return &judged{errors.New("there is no good object to go back to"), 1, "sluice bpf history shows what is known of each object"}
}
