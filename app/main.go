// Command app is shop, the sample service that the pipeline ships.
//
// It answers HTTP/1.1, unencrypted HTTP/2 and gRPC on one port, tells whether it
// is alive and ready, exports Prometheus metrics and OpenTelemetry traces, and
// leaves on SIGTERM without losing a request. Its fault knobs make a release
// slow or wrong on purpose, so that there is something to roll back.
//
// It promises to know nothing of Sluice: what the pipeline does with shop it
// must be able to do with any other service.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"
)

// Exit codes. A configuration that cannot work is told apart from a machine
// that does not let it work.
const (
	exitOK      = 0
	exitFailed  = 1
	exitInvalid = 2
)

// flushTimeout bounds the wait for a trace collector that is gone when the
// process leaves.
const flushTimeout = 3 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// From the first signal on the default action is back: a second one ends the
	// process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run is main without the process around it: it serves until ctx is cancelled
// and returns the exit code.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	opts, err := parseOptions(args, getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		printUsage(stdout)
		return exitOK
	case err != nil:
		fmt.Fprintln(stderr, "shop:", err)
		return exitInvalid
	case opts.ShowVersion:
		fmt.Fprintln(stdout, "shop", describeVersion())
		return exitOK
	}
	tracing, err := newTracing(ctx, getenv)
	if err != nil {
		fmt.Fprintln(stderr, "shop:", err)
		return exitInvalid
	}
	// The SDK reports export errors only through this global.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { fmt.Fprintln(stderr, "shop: traces:", err) }))

	err = listenAndServe(ctx, opts, tracing, stderr)
	// ctx is over by now, and the last spans still have to leave.
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if flushErr := tracing.shutdown(flush); flushErr != nil {
		fmt.Fprintln(stderr, "shop: flushing traces:", flushErr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "shop:", err)
		return exitFailed
	}
	return exitOK
}

func listenAndServe(ctx context.Context, opts options, tracing *tracing, stderr io.Writer) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", opts.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: choose another one with -listen or SHOP_LISTEN", err)
	}
	if err != nil {
		return err
	}
	srv := newServer(opts, tracing, stderr)
	fmt.Fprintf(stderr, "shop: %s listening on %s (HTTP/1.1, h2c, gRPC)\n", releaseVersion(), ln.Addr())
	return srv.serve(ctx, ln)
}
