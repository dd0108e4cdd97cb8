// Command kernels tries every eBPF object of Sluice on the kernels of four
// Debian releases, in virtual machines, and prints which does what.
//
// A machine has one program, the guest: it loads and attaches the objects, sends
// real connections through them and tells what came of it. The kernels come from
// Debian's signed packages, which are unpacked into a cache and not installed. A
// capability may be missing only on kernels older than the object promises;
// anything else is a failure, and the exit status is 1.
//
//	go run ./internal/kernels                 # try all, print a table
//	go run ./internal/kernels -kernel 6.1 -v  # one, with its console
//	go run ./internal/kernels -compare        # and fail if bpf/README.md says otherwise
//	go run ./internal/kernels -write          # put the table into bpf/README.md
//	go run ./internal/kernels -object x.o     # who loads this one?
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	t := tryout{}
	flag.StringVar(&t.only, "kernel", "", "try only this one: "+names())
	flag.StringVar(&t.document, "table", "bpf/README.md", "document with the table")
	flag.BoolVar(&t.write, "write", false, "write the table into the document")
	flag.BoolVar(&t.compare, "compare", false, "fail if the table in the document differs")
	flag.BoolVar(&t.update, "update", false, "look for newer kernels, instead of those that were downloaded before")
	flag.BoolVar(&t.verbose, "v", false, "show the consoles")
	flag.Func("object", "only load this object, whatever it is; may be given several times", func(file string) error {
		t.objects = append(t.objects, file)
		return nil
	})
	flag.DurationVar(&t.limit, "limit", 4*time.Minute, "longest time for one machine")
	flag.Parse()
	err := t.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "kernels: %v\n", err)
		os.Exit(1)
	}
}
