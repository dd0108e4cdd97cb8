package main

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/agent"
	"github.com/sluice-cd/sluice/internal/cgroup"
	"github.com/sluice-cd/sluice/internal/export"
	"github.com/sluice-cd/sluice/internal/objects"
)

// resolve finds what this machine has, and says what is missing.
func (o *options) resolve() error {
	if err := privileged(); err != nil {
		return err
	}
	if o.cgroup == "" {
		root, err := cgroup.Root()
		if err != nil {
			return fmt.Errorf("looking for the control groups: %w", err)
		}
		if err := isWhole(root); err != nil {
			return err
		}
		o.cgroup = root
	}
	if err := isCgroup2(o.cgroup); err != nil {
		return err
	}
	if o.pin == "" {
		fs, err := bpf.MountedBPFFS()
		if err != nil {
			return &noBPFFSError{err}
		}
		o.pin = filepath.Join(fs, "sluice-probe")
	}
	if o.pin == none {
		o.pin = ""
	}
	return nil
}

// config makes the daemon's configuration of the flags; everything that can be
// found wrong is found before anything reaches the kernel.
func (o *options) config(stderr io.Writer) (agent.Config, error) {
	cfg := agent.Config{
		Cgroup: o.cgroup, Pin: o.pin, Workloads: o.workloads, Node: o.node,
		Interval: o.interval, Probation: o.probation, Budget: float64(o.budget),
		Listen: o.listen, SocketGroup: o.socketGroup, TLS: agent.TLS{Cert: o.cert, Key: o.key, ClientCA: o.clientCA}, Pprof: o.pprof,
		Keep: o.keep, UnsafeUnconfined: o.unconfined, Log: slog.New(handler(o.logFormat, stderr)),
	}
	if len(cfg.Listen) == 0 {
		cfg.Listen = []string{defaultSocket}
	}
	var err error
	if cfg.Allow, err = o.allow(); err != nil {
		return cfg, &usageError{err}
	}
	if err := cfg.TLS.Check(); err != nil {
		return cfg, err
	}
	if cfg.Keys, err = readKeys(o.keys); err != nil {
		return cfg, err
	}
	if cfg.Object, err = o.read(cfg.Keys); err != nil {
		return cfg, err
	}
	if cfg.OTLP, err = o.exporter(); err != nil {
		return cfg, err
	}
	if o.history != none {
		name, _ := os.Hostname()
		if o.node != "" {
			name = o.node
		}
		cfg.History, err = objects.Open(o.history, name, objects.Options{
			CAFile: o.etcdCA, CertFile: o.etcdCert, KeyFile: o.etcdKey, User: o.etcdUser, Password: o.etcdPassword,
		})
		if err != nil {
			return cfg, &historyError{err}
		}
		cfg.State = o.state()
		cfg.Read = []string{o.etcdCert, o.etcdKey} // read again for every connection
	}
	return cfg, nil
}

// historyError means that there is no place for the history of objects.
type historyError struct{ err error }

func (e *historyError) Error() string { return e.err.Error() }

func (e *historyError) Unwrap() error { return e.err }

func (e *historyError) Hint() string {
	return "choose another place with --history, or none: then only the object before the last swap can be rolled back to"
}

// state lists the folders that are written to.
func (o *options) state() []string {
	if dir, ok := strings.CutPrefix(o.history, "dir:"); ok {
		return []string{dir}
	}
	return nil
}

func (o *options) allow() (agent.Allow, error) {
	a := agent.Allow{SPIFFE: o.spiffe, DNS: o.dns}
	for _, text := range o.uids {
		uid, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return a, fmt.Errorf("--writer-uid %q, want the number of a user", text)
		}
		a.UIDs = append(a.UIDs, uint32(uid))
	}
	if o.clientCA == "" && len(o.spiffe)+len(o.dns) > 0 {
		return a, errors.New("--allow-spiffe-id and --allow-dns need --tls-client-ca: somebody has to vouch for the names")
	}
	return a, a.Check()
}

// exporter says where metrics are sent.
func (o *options) exporter() (export.OTLPOptions, error) {
	e := export.OTLPOptions{Endpoint: o.otlp, Interval: o.otlpInterval, Version: version(), Headers: map[string]string{}}
	for pair := range strings.SplitSeq(o.otlpHeaders, ",") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok && pair != "" {
			return e, usage("$%sOTLP_HEADERS: an element without =, want name=value,name=value", envPrefix)
		}
		if ok {
			e.Headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	if o.otlpCA != "" {
		text, err := os.ReadFile(o.otlpCA)
		if err != nil {
			return e, fmt.Errorf("reading the authorities of the collector: %w", err)
		}
		e.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
		if !e.TLS.RootCAs.AppendCertsFromPEM(text) {
			return e, fmt.Errorf("reading the authorities of the collector: no certificate in %s", o.otlpCA)
		}
	}
	return e, nil
}

func readKeys(files []string) ([]*ecdsa.PublicKey, error) {
	var keys []*ecdsa.PublicKey
	for _, file := range files {
		key, err := agent.Key(file)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// read verifies the object.
func (o *options) read(keys []*ecdsa.PublicKey) (agent.Object, error) {
	switch {
	case o.object == "":
		return agent.BuiltIn(), nil
	case o.digest != "":
		return agent.BoundObject(o.object, o.want())
	}
	return agent.SignedObject(o.object, o.bundle, keys...)
}

func handler(format string, w io.Writer) slog.Handler {
	if format == "json" {
		return slog.NewJSONHandler(w, nil)
	}
	return slog.NewTextHandler(w, nil)
}
