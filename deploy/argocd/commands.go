package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/deploy/argocd/hook"
	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

func hookCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "hook", Short: "What the Jobs of a sync run",
		Long: `A hook reads sluice.yaml, cosign.pub and rules from the ConfigMap that SLUICE_SETTINGS
names (NAMESPACE/NAME), and from the environment SLUICE_IMAGE (the release, with its
digest), SLUICE_APP and SLUICE_APP_NAMESPACE.
What it comes to is its exit status, its termination message, events, and the
annotations sluice.dev/verdict, reason and release and the condition
SluiceVerdict of the Application. It may be killed and run again at any time.`,
		Example: `  sluice-argo hook presync
  kubectl get application shop -n argocd -o jsonpath='{.metadata.annotations.sluice\.dev/reason}'`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { // a Job that names none must not let a sync go on
			return errors.New("no hook is named (known: presync, sync, postsync, syncfail)")
		},
	}
	for name, short := range map[string]string{
		"presync":  "May the release get traffic at all: signatures, rules, verdicts given before, probes",
		"sync":     "Give the release traffic step by step, for as long as the gate agrees",
		"postsync": "Traffic to rest and the books closed: the release is stable",
		"syncfail": "Traffic back, the books closed, and a revert commit: the release failed",
	} {
		cmd.AddCommand(oneHook(name, short))
	}
	return cmd
}

func oneHook(name, short string) *cobra.Command {
	var dir, kubeconfig, format, termination string
	cmd := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		Example: fmt.Sprintf("  SLUICE_IMAGE=registry.example.com/shop:1.2.0@sha256:… sluice-argo hook %s --settings ./settings", name),
		RunE: func(cmd *cobra.Command, _ []string) error {
			json, err := asJSON(format)
			if err != nil {
				return err
			}
			cfg, err := apiserver.Connect(kubeconfig)
			s, clean, settingsErr := hookSettings(cmd.Context(), cfg, dir)
			defer clean()
			s.Termination = termination
			if err := errors.Join(settingsErr, err); err != nil {
				return errors.Join(err, hook.Fail(cmd.Context(), name, s, cfg, err))
			}
			v, err := hook.Run(cmd.Context(), name, s, cfg, cmd.ErrOrStderr())
			if json {
				return errors.Join(err, printJSON(cmd.OutOrStdout(), v))
			}
			fmt.Fprintln(cmd.OutOrStdout(), v.Sentence())
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "settings", "", "folder with sluice.yaml and cosign.pub, in place of the ConfigMap; credentials for git and etcd lie in the folders of this name with -git and -etcd at its end")
	cmd.Flags().StringVar(&termination, "termination-log", "/dev/termination-log", "file for the verdict as one line of JSON, at most 4096 bytes; empty: none")
	addKubeconfig(cmd, &kubeconfig)
	addFormat(cmd, &format)
	return cmd
}

// hookSettings reads them from a folder, or as a pod does. They are put down until
// clean is called.
func hookSettings(ctx context.Context, cfg *rest.Config, dir string) (s hook.Settings, clean func(), err error) {
	clean = func() {}
	if dir != "" || cfg == nil {
		s, err = hook.Load(dir)
		return s, clean, err
	}
	if dir, err = os.MkdirTemp("", "sluice-settings-"); err != nil {
		return s, clean, err
	}
	s, err = hook.Fetch(ctx, cfg, os.Getenv("SLUICE_SETTINGS"), dir)
	return s, func() { _ = os.RemoveAll(dir) }, err
}

// operator is what the commands of an operator share.
type operator struct{ file, kubeconfig, app, appNamespace, etcd, format string }

func (o *operator) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.file, "file", "f", "sluice.yaml", "configuration")
	cmd.Flags().StringVar(&o.app, "app", "", "name of the Application (default: that of the service)")
	cmd.Flags().StringVar(&o.appNamespace, "app-namespace", "", "namespace of the Application (default: deploy.argocd.namespace)")
	cmd.Flags().StringVar(&o.etcd, "etcd-credentials", "", "folder with ca.crt, tls.crt and tls.key, where the ledger is in etcd")
	addKubeconfig(cmd, &o.kubeconfig)
	addFormat(cmd, &o.format)
}

func (o *operator) open() (hook.Settings, *rest.Config, error) {
	s, err := hook.LoadFile(o.file)
	if err != nil {
		return s, nil, err
	}
	s.Etcd = o.etcd
	s.App, s.AppNamespace = cmp.Or(o.app, s.App), cmp.Or(o.appNamespace, s.AppNamespace)
	cfg, err := apiserver.Connect(o.kubeconfig)
	return s, cfg, err
}

func addKubeconfig(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "kubeconfig", "", "file that says which cluster (default: this pod's, else $KUBECONFIG or ~/.kube/config)")
}

func addFormat(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVarP(into, "output", "o", "text", "format of the result: text or json")
}

func rollbackCommand() *cobra.Command {
	var o operator
	var git string
	options := hook.RollbackOptions{Operator: hook.Operator()}
	cmd := &cobra.Command{
		Use: "rollback", Short: "Take a release back, now: traffic, canary, then a revert commit", Args: cobra.NoArgs,
		Long: `Rollback takes back the release that is on its way: all traffic to the stable
version and the canary to zero at once, then a revert commit, so that git says
what runs. With nothing on its way it takes back the version that serves: the
revert commit goes to what was promoted before it, and the sync of that needs no
gate. The ledger records who did it. Run again it finishes what was cut short, and
takes back nothing more.`,
		Example: `  sluice-argo rollback --dry-run
  sluice-argo rollback -f sluice.yaml --git-credentials ./git     files username and password`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			json, err := asJSON(o.format)
			if err != nil {
				return err
			}
			s, cfg, err := o.open()
			if err != nil {
				return err
			}
			s.Git = git
			v, err := hook.Rollback(cmd.Context(), s, cfg, options, cmd.ErrOrStderr())
			switch {
			case err != nil:
				return err
			case json:
				return printJSON(cmd.OutOrStdout(), v)
			}
			fmt.Fprintln(cmd.OutOrStdout(), v.Sentence())
			return nil
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&git, "git-credentials", "", "folder with username and password for the revert commit")
	cmd.Flags().BoolVar(&options.Serving, "serving", false, "take back the version that serves, although the last release was taken back by hand")
	cmd.Flags().BoolVar(&options.DryRun, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}

func forgetCommand() *cobra.Command {
	var o operator
	options := hook.ForgetOptions{Operator: hook.Operator()}
	cmd := &cobra.Command{
		Use: "forget [ROLLOUT]", Short: "Let a release be judged again that was judged before", Args: cobra.MaximumNArgs(1),
		Long: `A verdict holds for an image under a configuration of the gate: the same release
is not tried again and again until it passes by luck. Forget says that one verdict
does not count any more, by the number of its rollout, or the newest one that was
not promoted. The ledger keeps both, and who said so.`,
		Example: `  sluice-argo forget --dry-run
  sluice-argo forget 7 --reason "the load generator was broken"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			json, err := asJSON(o.format)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if options.Rollout, err = strconv.Atoi(args[0]); err != nil || options.Rollout < 1 {
					return fmt.Errorf("rollout %q is not a number like 7; sluice-argo status lists them", args[0])
				}
			}
			s, cfg, err := o.open()
			if err != nil {
				return err
			}
			r, err := hook.Forget(cmd.Context(), s, cfg, options)
			switch {
			case err != nil:
				return err
			case json:
				return printJSON(cmd.OutOrStdout(), r)
			}
			does := map[bool]string{false: "does", true: "would"}[options.DryRun]
			fmt.Fprintf(cmd.OutOrStdout(), "rollout %d of %s %s (%s) %s not count any more\n", r.ID, r.Name, r.Version, cmp.Or(r.Verdict, string(r.Outcome)), does)
			return nil
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&options.Reason, "reason", "", "why, for the ledger")
	cmd.Flags().BoolVar(&options.DryRun, "dry-run", false, "say which rollout it would be, and write nothing")
	return cmd
}

func statusCommand() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "status", Short: "What serves, what is on its way, and how the last rollouts ended", Args: cobra.NoArgs,
		Example: `  sluice-argo status
  sluice-argo status -o json | jq .serves`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			json, err := asJSON(o.format)
			if err != nil {
				return err
			}
			s, cfg, err := o.open()
			if err != nil {
				return err
			}
			st, err := hook.Look(cmd.Context(), s, cfg)
			switch {
			case err != nil:
				return err
			case json:
				return printJSON(cmd.OutOrStdout(), st)
			}
			fmt.Fprint(cmd.OutOrStdout(), st.Text())
			return nil
		},
	}
	o.flags(cmd)
	return cmd
}
