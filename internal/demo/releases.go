package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sluice-cd/sluice/internal/release"
)

// story is one release of the demo and how it has to end.
type story struct {
	version string
	title   string
	args    []string                                  // of sluice run: the injected fault
	tamper  func(d *demo, version string) error       // between publish and deploy
	attack  func(ctx context.Context) (string, error) // while the canary gets traffic
	want    ending
}

type ending struct {
	outcome release.Outcome
	trigger release.Trigger
}

var promoted = ending{release.Promoted, ""}

// releases is the demo, release by release.
func releases(service string) []story {
	return []story{
		{version: "v1.0.0", title: "the first release", want: promoted},
		{version: "v1.1.0", title: "a healthy release", want: promoted},
		{
			version: "v1.2.0", title: "a release that is twice as slow", args: []string{"--env", "SHOP_LATENCY=10ms"},
			want: ending{release.RolledBack, release.SLO},
		},
		{
			version: "v1.3.0", title: "a release that fails 5 % of its requests", args: []string{"--env", "SHOP_ERROR_RATIO=0.05"},
			want: ending{release.RolledBack, release.SLO},
		},
		{
			version: "v1.4.0", title: "a healthy release whose probe object was tampered with", tamper: (*demo).flipByte,
			want: ending{release.Refused, release.Signature},
		},
		{
			version: "v1.4.1", title: "a healthy release during which somebody replaces the program in the kernel",
			attack: func(ctx context.Context) (string, error) { return replaceProgram(ctx, service) },
			want:   ending{release.RolledBack, release.HashMismatch},
		},
	}
}

// result is how a release ended.
type result struct {
	story
	record *release.Record
	took   time.Duration
}

// ship makes a release and rolls it out.
func (d *demo) ship(ctx context.Context, s story) error {
	if d.healthy {
		s.args, s.tamper, s.attack, s.want = nil, nil, nil, promoted
	}
	d.chapter("%s: %s", s.version, s.title)
	begin := time.Now()
	verb := "run"
	if s.tamper != nil {
		if err := d.command(ctx, "publish", "--version", s.version, "--local-key"); err != nil {
			return err
		}
		if err := s.tamper(d, s.version); err != nil {
			return err
		}
		verb = "deploy"
	}
	attacked := make(chan error, 1)
	attackCtx, stop := context.WithCancel(ctx)
	defer stop()
	if s.attack != nil {
		go func() {
			text, err := s.attack(attackCtx)
			if err == nil {
				fmt.Println("  !! " + text)
			}
			attacked <- err
		}()
	} else {
		attacked <- nil
	}
	rec, err := d.rollOut(ctx, verb, s)
	stop()
	if attackErr := <-attacked; err == nil && attackErr != nil {
		err = fmt.Errorf("attacking: %w", attackErr)
	}
	if err != nil {
		return err
	}
	d.results = append(d.results, result{story: s, record: rec, took: time.Since(begin)})
	return d.startLoad(ctx)
}

// rollOut runs sluice and reads the record of the rollout from its result.
func (d *demo) rollOut(ctx context.Context, verb string, s story) (*release.Record, error) {
	args := append([]string{verb, "-f", d.file, "--out", d.out, "--version", s.version, "--local-key", "-o", "json"}, s.args...)
	cmd := exec.CommandContext(ctx, d.sluice, args...)
	var stdout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, os.Stdout
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	runErr := cmd.Run()
	var got struct {
		Record *release.Record `json:"record"`
	}
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil || got.Record == nil {
		return nil, errors.Join(fmt.Errorf("sluice %s %s rolled nothing out", verb, s.version), runErr)
	}
	return got.Record, ctx.Err()
}

// flipByte changes one byte of the published probe object.
func (d *demo) flipByte(version string) error {
	path := filepath.Join(d.out, "releases", version, "bpf", "probe.bpf.o")
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("tampering: %w", err)
	}
	raw[len(raw)/2] ^= 1
	fmt.Printf("  !! one bit of %s flipped\n", path)
	return os.WriteFile(path, raw, 0o644)
}
