package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/internal/cgroup"
	"github.com/sluice-cd/sluice/internal/cluster"
)

// A lab is the cluster with everything in it, and the tools of its people.
type lab struct {
	root   string // of the repository
	out    string // what may be kept for the next time
	work   string // what may not
	name   string // of the cluster
	rate   float64
	report *report
	begin  time.Time

	maker     *maker
	argo      string // the command sluice-argo
	kustomize string // the command
	info      *cluster.Info
	kube      *kube
	password  string // of the git server
	cgroup    string // where the nodes have their control groups of version 2
	remotes   string // the git server on loopback of this machine

	hookImage, probeImage string
	shop, web, tags       *service
}

// say tells a person what happens.
func (l *lab) say(format string, args ...any) {
	since := time.Since(l.begin).Round(time.Second)
	fmt.Fprintf(os.Stderr, "[%02d:%02d] %s\n", int(since.Minutes()), int(since.Seconds())%60, fmt.Sprintf(format, args...))
}

// remote is the URL of a repository for programs on this machine.
func (l *lab) remote(name string) string {
	u := url.URL{Scheme: "http", User: url.UserPassword(l.info.GitUser, l.password), Host: l.remotes, Path: "/" + name + ".git"}
	return u.String()
}

// prepare builds what the scenarios ship and starts the cluster, side by side.
func (l *lab) prepare(ctx context.Context) error {
	for _, dir := range []string{l.out, l.work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("preparing: %w", err)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.build(ctx) })
	group.Go(func() error { return l.up(ctx) })
	return group.Wait()
}

// build makes the commands and the releases.
func (l *lab) build(ctx context.Context) error {
	bin, err := filepath.Abs(filepath.Join(l.out, "bin"))
	if err != nil {
		return fmt.Errorf("preparing: %w", err)
	}
	l.argo = filepath.Join(bin, "sluice-argo")
	l.maker = &maker{sluice: filepath.Join(bin, "sluice"), root: l.root, out: filepath.Join(l.out, "releases"), say: l.say}
	for program, dir := range map[string]string{l.argo: filepath.Join(l.root, "deploy", "argocd"), l.maker.sluice: filepath.Join(l.root, "cmd", "sluice")} {
		if _, err := runLong(ctx, dir, "go", "build", "-trimpath", "-o", program, "."); err != nil {
			return err
		}
	}
	if err := l.maker.make(ctx, recipes()); err != nil {
		return err
	}
	l.say("%d releases are made", len(recipes()))
	return nil
}

// up starts the cluster.
func (l *lab) up(ctx context.Context) error {
	var err error
	if l.kustomize, err = cluster.Binary(ctx, "kustomize", func(s string) { l.say("%s", s) }); err != nil {
		return err
	}
	begin := time.Now()
	l.info, err = cluster.Up(ctx, cluster.Options{Name: l.name, ArgoCD: true, Gateway: true, Say: func(s string) { l.say("cluster: %s", s) }})
	if err != nil {
		return err
	}
	l.report.figure("cluster up (s)", time.Since(begin).Seconds())
	cfg, err := l.info.Config()
	if err != nil {
		return err
	}
	if l.kube, err = newKube(cfg); err != nil {
		return err
	}
	l.password, err = cluster.GitPassword(l.name)
	return err
}

// fill puts images and services into the cluster.
func (l *lab) fill(ctx context.Context) error {
	group, err := cgroup.Root()
	if err != nil {
		return err
	}
	// In the nodes' view of /sys the hierarchies are where they usually are.
	if l.cgroup = "/sys/fs/cgroup"; strings.HasSuffix(group, "/unified") {
		l.cgroup += "/unified"
	}
	registry, err := l.tlsDialer()
	if err != nil {
		return err
	}
	address, err := forward(ctx, registry, l.info.Registry)
	if err != nil {
		return err
	}
	git := strings.TrimPrefix(l.info.Git, "http://")
	if l.remotes, err = forward(ctx, l.info.DialContext, git); err != nil {
		return err
	}
	if err := l.ship(ctx, address); err != nil {
		return err
	}
	if err := l.maker.publish(ctx, recipes(), address); err != nil {
		return err
	}
	l.say("images are in the registry")
	l.shop = &service{lab: l, name: "shop"}
	l.web = &service{lab: l, name: "web", route: true}
	l.tags = &service{lab: l, name: "tags", revision: "1.*"}
	return nil
}

// tlsDialer connects to servers whose certificates are the cluster's.
func (l *lab) tlsDialer() (dialer, error) {
	pem, err := os.ReadFile(l.info.RegistryCA)
	if err != nil {
		return nil, fmt.Errorf("reading the authority of the registry: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", l.info.RegistryCA)
	}
	host, _, err := net.SplitHostPort(l.info.Registry)
	if err != nil {
		return nil, fmt.Errorf("address of the registry: %w", err)
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := l.info.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		secure := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS12})
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return secure, nil
	}, nil
}

// ship makes the images that Sluice itself needs and publishes them.
func (l *lab) ship(ctx context.Context, registry string) error {
	out, err := runLong(ctx, l.root, "go", "run", "./internal/ship", "-o", filepath.Join(l.out, "images"),
		"-registry", registry+"/sluice", "-insecure", "-ca", l.info.RegistryCA)
	if err != nil {
		return err
	}
	var made []struct {
		Name, Digest string
		Bytes        int64
		Binary       int64 `json:"binary_bytes"`
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		return fmt.Errorf("reading what ship made: %w", err)
	}
	for _, m := range made {
		ref := fmt.Sprintf("%s/sluice/%s:dev@%s", l.info.Registry, m.Name, m.Digest)
		switch m.Name {
		case "sluice-argo":
			l.hookImage = ref
		case "sluice-probe":
			l.probeImage = ref
		}
		l.report.figure("image of "+m.Name+" (MB, compressed)", float64(m.Bytes)/1e6)
		l.report.figure("image of "+m.Name+" (MB, unpacked)", float64(m.Binary)/1e6)
	}
	return nil
}

// probes installs the daemons and waits until they measure.
func (l *lab) probes(ctx context.Context) error {
	text, err := l.shop.built(ctx, "probe")
	if err != nil {
		return err
	}
	if err := cluster.Apply(ctx, l.kube.rest, probeNamespace, text); err != nil {
		return err
	}
	return l.probesReady(ctx)
}

// probeNamespace is where the daemons are.
const probeNamespace = "sluice-system"

// probesReady waits until every daemon is the one that the DaemonSet asks for.
func (l *lab) probesReady(ctx context.Context) error {
	return poll(ctx, time.Minute, "sluice-probe on every node", func() (bool, error) {
		d, err := l.kube.need(ctx, kindDaemonSet, probeNamespace, "sluice-probe")
		if err != nil {
			return false, err
		}
		want := number(d, "status", "desiredNumberScheduled")
		return want > 0 && number(d, "status", "observedGeneration") == d.GetGeneration() &&
			number(d, "status", "updatedNumberScheduled") == want && number(d, "status", "numberReady") == want, nil
	})
}

// close ends what runs on this machine, and the cluster unless it is to be kept.
func (l *lab) close(ctx context.Context, keep bool) error {
	for _, s := range []*service{l.shop, l.web, l.tags} {
		if s != nil {
			s.traffic.stop()
		}
	}
	if keep {
		l.say("the cluster %s is left: go run ./internal/cluster/cmd -name %s down", l.name, l.name)
		return nil
	}
	return cluster.Down(ctx, l.name)
}
