// Command cluster starts a whole Kubernetes on this machine for end-to-end
// scenarios, and removes it without a trace.
//
//	cluster up [-nodes 2] [-argocd] [-gateway]   start it, if it is not up
//	cluster build [-argocd] [-gateway]           only build its programs, which takes long the first time
//	cluster exec -- CMD...                       run a command on its host, with its network and kubectl
//	cluster image NAME:TAG PROGRAM               put a static program into its registry as an image
//	cluster git-password [NEW]                   show or change the password of its git server
//	cluster status                               where everything is
//	cluster down                                 end it and remove everything
//
// -name NAME before the command names another cluster than "default".
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/sluice-cd/sluice/internal/cluster"
)

const usage = "usage: cluster [-name NAME] up [-nodes N] [-argocd] [-gateway] | build [-argocd] [-gateway] | exec -- CMD... | image NAME:TAG PROGRAM | git-password [NEW] | status | down"

func main() {
	cluster.Inside()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "cluster: %v\n", err)
		if advice := (interface{ Hint() string })(nil); errors.As(err, &advice) {
			fmt.Fprintf(os.Stderr, "cluster: hint: %s\n", advice.Hint())
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprintln(os.Stderr, usage) }
	name := flags.String("name", "default", "name of the cluster")
	if err := flags.Parse(args); err != nil || flags.NArg() == 0 {
		return errors.New(usage)
	}
	command, rest := flags.Arg(0), flags.Args()[1:]
	switch command {
	case "up", "build":
		return up(ctx, *name, command == "build", rest)
	case "down":
		return cluster.Down(ctx, *name)
	case "git-password":
		return gitPassword(*name, rest)
	}
	info, ended, err := cluster.Status(*name)
	if err != nil {
		return err
	}
	switch {
	case command == "status":
		for _, line := range ended {
			fmt.Fprintln(os.Stderr, "cluster:", line)
		}
		return show(info)
	case command == "exec" && len(rest) > 0:
		return inside(ctx, info, rest)
	case command == "image" && len(rest) == 2:
		ref, err := info.PushImage(ctx, rest[1], rest[0])
		if err == nil {
			fmt.Println(ref)
		}
		return err
	}
	return errors.New(usage)
}

func up(ctx context.Context, name string, build bool, args []string) error {
	o := cluster.Options{Name: name, Say: func(line string) { fmt.Fprintln(os.Stderr, line) }}
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	flags.IntVar(&o.Nodes, "nodes", 1, "number of nodes")
	flags.BoolVar(&o.ArgoCD, "argocd", false, "also Argo CD, in namespace argocd")
	flags.BoolVar(&o.Gateway, "gateway", false, "also the gateway infra/web")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return errors.New(usage)
	}
	if build {
		return cluster.Build(ctx, o)
	}
	info, err := cluster.Up(ctx, o)
	if err != nil {
		return err
	}
	return show(info)
}

func show(info *cluster.Info) error {
	raw, err := json.MarshalIndent(info, "", "  ")
	if err == nil {
		fmt.Printf("%s\n", raw)
	}
	return err
}

func inside(ctx context.Context, info *cluster.Info, args []string) error {
	if args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New(usage)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return info.Run(ctx, cmd)
}

func gitPassword(name string, args []string) error {
	if len(args) == 1 {
		return cluster.SetGitPassword(name, args[0])
	}
	password, err := cluster.GitPassword(name)
	if err == nil {
		fmt.Println(password)
	}
	return err
}
