package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/wire"
)

// usageError means that the flags are wrong.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

func (e *usageError) Hint() string { return "sluice-probe --help shows all flags, with examples" }

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// options are the flags as they were given.
type options struct {
	clean, version bool

	cgroup, pin, node string
	workloads         int
	interval          time.Duration
	probation         time.Duration
	budget            percent

	object, bundle, digest string
	keys                   list

	listen, spiffe, dns, uids list
	cert, key, clientCA       string
	socketGroup               int
	pprof                     bool

	history, etcdCA, etcdCert, etcdKey, etcdUser string
	etcdPassword                                 string // from the environment only: flags are for all to see

	otlp, otlpCA string
	otlpInterval time.Duration
	otlpHeaders  string // from the environment only: they hold tokens

	keep, unconfined bool
	logFormat        string
}

// Defaults. That of --pin and --cgroup depends on where the file systems are.
const (
	defaultSocket  = "unix:/run/sluice-probe.sock"
	defaultHistory = "dir:/var/lib/sluice-probe"
	none           = "none"
	envPrefix      = "SLUICE_PROBE_"
)

// list is a flag that may be given more than once.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	*l = append(*l, s)
	return nil
}

// percent is a share, written as 5%.
type percent float64

func (p *percent) String() string { return strconv.FormatFloat(100*float64(*p), 'g', -1, 64) + "%" }

func (p *percent) Set(s string) error {
	number, ok := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(v >= 0 && v <= 100) {
		return errors.New("want a share of one core such as 5%, 100% at most, or 0% for no limit")
	}
	*p = percent(v / 100)
	return nil
}

// flags declares them. Names in the usage text are in back quotes, as package
// flag wants them.
func (o *options) flags() *flag.FlagSet {
	f := flag.NewFlagSet("sluice-probe", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.cgroup, "cgroup", "", "measure this control group and those below it: `DIR` of a cgroup2 file system (default: all of it)")
	f.IntVar(&o.workloads, "workloads", 0, "`NUMBER` of workloads that can be told apart (default: 256)")
	f.StringVar(&o.node, "node", "", "`NAME` of this machine (default: its host name)")
	f.DurationVar(&o.interval, "interval", time.Second, "`TIME` between two looks at the counters")
	f.StringVar(&o.pin, "pin", "", "keep counters in this `DIR` of a bpf file system while no daemon runs, or none (default: sluice-probe on the first such file system)")
	f.BoolVar(&o.keep, "keep", false, "at the end leave the probe counting for the next start")

	f.StringVar(&o.object, "object", "", "load this eBPF object `FILE` (default: after a restart the good one that was loaded last, else the built-in one)")
	f.StringVar(&o.bundle, "bundle", "", "`FILE` with the signature of --object")
	f.Var(&o.keys, "key", "`FILE` with a public key whose signature counts, also for objects that come later; repeatable")
	f.StringVar(&o.digest, "digest", "", "`sha256:…` of --object, verified by somebody else before")
	f.DurationVar(&o.probation, "probation", time.Minute, "`TIME` in which an object that was swapped in is rolled back if retransmits surge")
	f.StringVar(&o.history, "history", defaultHistory, "`PLACE` of the history of objects: dir:PATH, etcd:URL[,URL], or none")
	f.StringVar(&o.etcdCA, "etcd-ca", "", "`FILE` with the authorities of etcd")
	f.StringVar(&o.etcdCert, "etcd-cert", "", "`FILE` with the certificate for etcd")
	f.StringVar(&o.etcdKey, "etcd-key", "", "`FILE` with the key of --etcd-cert")
	f.StringVar(&o.etcdUser, "etcd-user", "", "`NAME` for etcd; the password is in $"+envPrefix+"ETCD_PASSWORD")

	f.Var(&o.listen, "listen", "serve `ADDRESS`: unix:PATH or tcp:HOST:PORT; repeatable (default "+defaultSocket+")")
	f.StringVar(&o.cert, "tls-cert", "", "`FILE` with the certificate of TCP listeners; read anew for every connection")
	f.StringVar(&o.key, "tls-key", "", "`FILE` with the key of --tls-cert")
	f.StringVar(&o.clientCA, "tls-client-ca", "", "`FILE` with the authorities of clients: only these may read over TCP")
	f.Var(&o.spiffe, "allow-spiffe-id", "over TLS this `ID` may write; * stands for what is between two slashes; repeatable")
	f.Var(&o.dns, "allow-dns", "over TLS a certificate with this `NAME` may write; repeatable")
	f.Var(&o.uids, "writer-uid", "over the Unix socket this `USER` number may write, besides 0; repeatable")
	f.IntVar(&o.socketGroup, "socket-group", 0, "users of this `GROUP` number may connect to the Unix socket, besides root")
	f.BoolVar(&o.pprof, "pprof", false, "serve /debug/pprof")

	f.StringVar(&o.otlp, "otlp", "", "send metrics to this `URL` of an OpenTelemetry collector, over HTTP; headers are in $"+envPrefix+"OTLP_HEADERS (a=b,c=d)")
	f.StringVar(&o.otlpCA, "otlp-ca", "", "`FILE` with the authorities of the collector")
	f.DurationVar(&o.otlpInterval, "otlp-interval", 10*time.Second, "`TIME` between two sendings")

	f.Var(&o.budget, "budget", "`SHARE` of one core that measuring may cost; above it the gate does not trust the node")
	f.StringVar(&o.logFormat, "log-format", "text", "`text` or json")
	f.BoolVar(&o.unconfined, "unsafe-unconfined", false, "keep all privileges: for debugging only")
	f.BoolVar(&o.version, "version", false, "print the version and the digest of the built-in object")
	return f
}

// parse reads flags, then the environment for those that were not given.
func parse(args []string, env func(string) (string, bool), stdout io.Writer) (*options, error) {
	o := &options{budget: 0.05}
	if len(args) > 0 && args[0] == "clean" {
		o.clean, args = true, args[1:]
	}
	f := o.flags()
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		help(f, stdout)
		return nil, err
	} else if err != nil {
		return nil, &usageError{err}
	}
	if f.NArg() > 0 {
		return nil, usage("unexpected argument %q (the only one is clean, before the flags)", f.Arg(0))
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var err error
	f.VisitAll(func(f *flag.Flag) {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := env(name)
		if !ok || given[f.Name] || err != nil {
			return
		}
		values := []string{value}
		if _, many := f.Value.(*list); many {
			values = strings.Split(value, ",")
		}
		for _, v := range values {
			if e := f.Value.Set(v); e != nil {
				err = usage("environment variable %s=%q: %w", name, value, e)
			}
		}
	})
	o.etcdPassword, _ = env(envPrefix + "ETCD_PASSWORD")
	o.otlpHeaders, _ = env(envPrefix + "OTLP_HEADERS")
	if err == nil {
		err = o.check()
	}
	return o, err
}

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// check refuses flags that do not go together.
func (o *options) check() error {
	switch {
	case o.object == "" && (o.bundle != "" || o.digest != ""):
		return usage("--bundle and --digest belong to an --object")
	case o.object != "" && o.digest == "" && (o.bundle == "" || len(o.keys) == 0):
		return usage("an object needs its signature: give --bundle and --key with --object, or --digest if somebody else has verified it")
	case o.digest != "" && o.bundle != "":
		return usage("--digest and --bundle are two ways to trust an --object: give one")
	case o.digest != "" && !digestForm.MatchString(o.digest):
		return usage("--digest %q, want sha256: and 64 hexadecimal digits in small letters", o.digest)
	case o.interval < 100*time.Millisecond || o.interval > time.Minute:
		return usage("--interval %v, want 100ms to 1m", o.interval)
	case o.probation < o.interval:
		return usage("--probation %v, want no less than --interval", o.probation)
	case o.otlp == "" && o.otlpCA != "":
		return usage("--otlp-ca belongs to --otlp")
	case o.otlp != "" && !isCollector(o.otlp):
		return usage("--otlp %q, want http://HOST:4318 or https://HOST:4318: metrics are sent over HTTP, not gRPC", o.otlp)
	case o.otlpInterval < time.Second:
		return usage("--otlp-interval %v, want 1s or more", o.otlpInterval)
	case o.socketGroup < 0:
		return usage("--socket-group %d, want the number of a group", o.socketGroup)
	case o.workloads < 0 || o.workloads > wire.MaxWorkloads:
		return usage("--workloads %d, want 1 to %d", o.workloads, wire.MaxWorkloads)
	case o.logFormat != "text" && o.logFormat != "json":
		return usage("--log-format %q, want text or json", o.logFormat)
	case o.keep && o.pin == none:
		return usage("--keep needs a folder to keep the probe in: leave out --pin none")
	}
	return nil
}

// isCollector reports whether metrics can be sent to an address.
func isCollector(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// want is the digest that --digest asks for.
func (o *options) want() bpf.Digest { return bpf.Digest(o.digest) }
