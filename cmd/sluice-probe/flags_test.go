package main

import (
	"bytes"
	"errors"
	"flag"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFlagsWinOverTheEnvironment(t *testing.T) {
	environment := map[string]string{
		"SLUICE_PROBE_LISTEN": "unix:/a,tcp::1", "SLUICE_PROBE_INTERVAL": "2s", "SLUICE_PROBE_KEEP": "true", "SLUICE_PROBE_BUDGET": "0.5%",
		"SLUICE_PROBE_ETCD_PASSWORD": "secret", "SLUICE_PROBE_OTLP_HEADERS": "authorization=Bearer a=b, tenant=shop",
	}
	env := func(name string) (string, bool) { v, ok := environment[name]; return v, ok }
	o, err := parse([]string{"--interval", "3s", "--key", "a", "--key", "b"}, env, nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.interval != 3*time.Second || !o.keep || o.budget != 0.005 || o.etcdPassword != "secret" {
		t.Errorf("parsed %+v", o)
	}
	if !slices.Equal(o.listen, []string{"unix:/a", "tcp::1"}) || !slices.Equal(o.keys, []string{"a", "b"}) {
		t.Errorf("lists are %q and %q", o.listen, o.keys)
	}
	e, err := o.exporter()
	if err != nil || e.Headers["authorization"] != "Bearer a=b" || e.Headers["tenant"] != "shop" {
		t.Errorf("headers are %v: %v", e.Headers, err)
	}
}

func TestEveryFlagIsInTheHelp(t *testing.T) {
	var out bytes.Buffer
	o, err := parse([]string{"--help"}, func(string) (string, bool) { return "", false }, &out)
	if !errors.Is(err, flag.ErrHelp) || o != nil {
		t.Errorf("help ends with %v", err)
	}
	new(options).flags().VisitAll(func(f *flag.Flag) {
		if f.Usage == "" || !strings.Contains(out.String(), "  --"+f.Name+" ") {
			t.Errorf("--%s is not explained", f.Name)
		}
	})
	for line := range strings.Lines(out.String()) {
		if len(line) > 180 {
			t.Errorf("a line of %d characters: %s", len(line), line)
		}
	}
}
