// Command e2e brings up a real cluster with a real Argo CD, ships releases of
// the sample service the way a team would, by commits, and looks from outside
// whether each ends as it has to.
//
// Clients ask the services all the time, from inside the cluster's network, and
// every request of theirs counts. Nothing is scripted: signatures, admission,
// measurements and verdicts are those of the product. A line for each scenario
// comes at the end, and JSON on stdout with -o json. A scenario that does not end
// as it has to spoils none that comes after it: the service is put in order first.
//
//	go run ./internal/e2e                 # all scenarios (needs root; about 25 minutes)
//	go run ./internal/e2e -list
//	go run ./internal/e2e -run 'slow|healthy' -keep
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/internal/cluster"
)

func main() {
	cluster.Inside()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if len(os.Args) > 1 && os.Args[1] == clientArg {
		err = runClient(ctx, os.Args[2:])
	} else {
		err = command(ctx)
	}
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		var hinted interface{ Hint() string }
		if errors.As(err, &hinted) && hinted.Hint() != "" {
			fmt.Fprintf(os.Stderr, "e2e: hint: %s\n", hinted.Hint())
		}
		os.Exit(1)
	}
}

func command(ctx context.Context) error {
	pattern := flag.String("run", "", "only scenarios whose names match this regular expression")
	list := flag.Bool("list", false, "list the scenarios")
	keep := flag.Bool("keep", false, "leave the cluster at the end")
	format := flag.String("o", "text", "format of the report: text, on stderr, or json, on stdout, too")
	limit := flag.Duration("limit", time.Hour, "time for all scenarios; those for which none is left are not played, and count as wrong")
	l := &lab{begin: time.Now()}
	flag.StringVar(&l.name, "cluster", "e2e", "name of the cluster")
	flag.StringVar(&l.out, "out", "out/e2e", "folder for what is made, which is used again the next time")
	flag.Float64Var(&l.rate, "rate", 150, "requests a second to each service")
	flag.Parse()
	only, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if *format != "text" && *format != "json" {
		return fmt.Errorf("-o %s: text or json", *format)
	}
	if *list {
		for _, s := range scenarios() {
			fmt.Printf("%-28s %s\n", s.name, s.what)
		}
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("a cluster and eBPF need root: sudo make e2e")
	}
	return l.run(ctx, only, *limit, *keep, *format == "json")
}

// run prepares everything, runs the scenarios and prints what came of them.
func (l *lab) run(ctx context.Context, only *regexp.Regexp, limit time.Duration, keep, asJSON bool) (err error) {
	if l.root, err = os.Getwd(); err != nil {
		return fmt.Errorf("looking for the repository: %w", err)
	}
	if l.out, err = filepath.Abs(l.out); err != nil {
		return fmt.Errorf("looking for the output: %w", err)
	}
	if l.work, err = os.MkdirTemp("", "sluice-e2e-"); err != nil {
		return fmt.Errorf("preparing: %w", err)
	}
	defer os.RemoveAll(l.work)
	l.report = &report{Machine: fmt.Sprintf("%d cores, %s", runtime.NumCPU(), kernel()), Started: l.begin, Figures: map[string]float64{}}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
		defer cancel()
		err = errors.Join(err, l.close(clean, keep))
	}()
	inner, cancel := context.WithCancel(ctx) // ends the forwarding
	defer cancel()
	if err := l.prepare(inner); err != nil {
		return err
	}
	if err := l.fill(inner); err != nil {
		return err
	}
	playing, end := context.WithDeadline(inner, l.begin.Add(limit))
	defer end()
	l.play(playing, only) // what was found out is told, whatever stops it
	l.report.figure("everything (s)", time.Since(l.begin).Seconds())
	l.report.text(os.Stderr)
	if asJSON {
		if err := l.report.json(os.Stdout); err != nil {
			return err
		}
	}
	if n := l.report.failed(); n > 0 {
		return fmt.Errorf("%d of %d scenarios did not end as they had to", n, len(l.report.Scenarios))
	}
	return nil
}

// kernel is the release of the running kernel.
func kernel() string {
	var u syscall.Utsname
	if syscall.Uname(&u) != nil {
		return runtime.GOOS
	}
	text := []byte{}
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		text = append(text, byte(c))
	}
	return "Linux " + string(text)
}
