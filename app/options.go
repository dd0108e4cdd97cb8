package main

import (
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"time"
)

// options is everything that flags and environment decide.
type options struct {
	// Listen is the one address for HTTP/1.1, h2c and gRPC.
	Listen string
	// LameDuck is how long the service goes on serving after it has said that it
	// is not ready, so that whoever sends it traffic can notice.
	LameDuck time.Duration
	// DrainTimeout is how long requests in flight may take after that.
	DrainTimeout time.Duration
	// Faults are the knobs of the work endpoints.
	Faults faults
	// ShowVersion asks for the version instead of a service.
	ShowVersion bool
}

// knob is one setting: a flag, the environment variable that sets its default,
// and what a good value looks like.
type knob struct {
	flag, env, value, help string
	set                    func(o *options, s string) error
}

// knobs is the whole configuration, in the order of the help text. Variables
// are looked up by name and others that begin with SHOP_ are left alone:
// Kubernetes sets SHOP_PORT and SHOP_SERVICE_HOST for a Service named shop.
var knobs = []knob{
	{
		"listen", "SHOP_LISTEN", ":8080", "address for HTTP/1.1, h2c and gRPC; port 0 takes a free one",
		func(o *options, s string) error { return setAddress(&o.Listen, s) },
	},
	{
		"lame-duck", "SHOP_LAME_DUCK", "2s", "time to go on serving after SIGTERM, not ready any more",
		func(o *options, s string) error { return setDuration(&o.LameDuck, s) },
	},
	{
		"drain-timeout", "SHOP_DRAIN_TIMEOUT", "10s", "time for requests in flight after that",
		func(o *options, s string) error { return setDuration(&o.DrainTimeout, s) },
	},
	{
		"latency", "SHOP_LATENCY", "2ms", "median of the lognormal base latency, slept",
		func(o *options, s string) error { return setDuration(&o.Faults.Latency, s) },
	},
	{
		"latency-sigma", "SHOP_LATENCY_SIGMA", "0.3", "sigma of the base latency, 0 to 3",
		func(o *options, s string) error { return setNumber(&o.Faults.LatencySigma, s, 0, 3) },
	},
	{
		"extra-latency", "SHOP_EXTRA_LATENCY", "0s", "added to every request",
		func(o *options, s string) error { return setDuration(&o.Faults.ExtraLatency, s) },
	},
	{
		"tail-ratio", "SHOP_TAIL_RATIO", "0", "share of requests in the slow tail, 0 to 1",
		func(o *options, s string) error { return setNumber(&o.Faults.TailRatio, s, 0, 1) },
	},
	{
		"tail-factor", "SHOP_TAIL_FACTOR", "10", "how many times slower the tail is, 1 to 1000",
		func(o *options, s string) error { return setNumber(&o.Faults.TailFactor, s, 1, 1000) },
	},
	{
		"error-ratio", "SHOP_ERROR_RATIO", "0", "share of requests answered with 500 or INTERNAL, 0 to 1",
		func(o *options, s string) error { return setNumber(&o.Faults.ErrorRatio, s, 0, 1) },
	},
	{
		"leak-bytes", "SHOP_LEAK_BYTES", "0", "memory lost with every request, up to 1 GiB",
		func(o *options, s string) error { return setBytes(&o.Faults.LeakBytes, s) },
	},
	{
		"cpu", "SHOP_CPU", "0s", "processor time burnt by every request",
		func(o *options, s string) error { return setDuration(&o.Faults.CPU, s) },
	},
}

// parseOptions reads the flags, with defaults from the environment. Every error
// is one line that names flag or variable, value and what would be right;
// flag.ErrHelp means that help was asked for.
func parseOptions(args []string, getenv func(string) string) (options, error) {
	var o options
	fs := flag.NewFlagSet("shop", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.BoolVar(&o.ShowVersion, "version", false, "")
	given := map[string]bool{}
	for _, k := range knobs {
		fs.Func(k.flag, k.help, func(s string) error {
			given[k.flag] = true
			return k.set(&o, s)
		})
	}
	if err := fs.Parse(args); err != nil {
		return options{}, fmt.Errorf("%w (see shop -help)", err)
	}
	if fs.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q: shop takes flags only, see shop -help", fs.Arg(0))
	}
	for _, k := range knobs {
		if given[k.flag] {
			continue
		}
		value := k.value
		if s := getenv(k.env); s != "" {
			value = s
		}
		if err := k.set(&o, value); err != nil {
			return options{}, fmt.Errorf("invalid value %q for variable %s: %w", value, k.env, err)
		}
	}
	return o, nil
}

func setAddress(p *string, s string) error {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("want [host]:port with a port from 0 to 65535, such as :8080")
	}
	*p = s
	return nil
}

func setDuration(p *time.Duration, s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > time.Hour {
		return fmt.Errorf("want a duration with its unit from 0s to 1h, such as 2ms or 1.5s")
	}
	*p = d
	return nil
}

func setNumber(p *float64, s string, low, high float64) error {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || f < low || f > high {
		return fmt.Errorf("want a number from %g to %g", low, high)
	}
	*p = f
	return nil
}

func setBytes(p *int, s string) error {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n > 1<<30 {
		return fmt.Errorf("want a whole number of bytes from 0 to 1073741824, such as 4096")
	}
	*p = int(n)
	return nil
}

func printUsage(w io.Writer) {
	fmt.Fprint(w, "usage: shop [flags]\n\nThe sample service: / /work /healthz /readyz /metrics and gRPC shop.v1.Shop/Work on one port.\n",
		"Traces leave when OTEL_EXPORTER_OTLP_ENDPOINT is set.\n\n")
	for _, k := range knobs {
		fmt.Fprintf(w, "  -%-14s %-19s %-6s %s\n", k.flag, k.env, k.value, k.help)
	}
	fmt.Fprintf(w, "  -%-14s %-19s %-6s %s\n", "version", "", "", "print the version and exit")
	fmt.Fprint(w, "\nExample: a release whose tail is slow and that fails one request in twenty\n",
		"  shop -listen 127.0.0.1:8080 -tail-ratio 0.02 -error-ratio 0.05\n")
}
