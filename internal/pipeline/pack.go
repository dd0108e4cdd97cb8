package pipeline

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/pack"
	"github.com/sluice-cd/sluice/internal/sandbox"
)

// Pack compresses every binary with UPX and keeps what is worth keeping. What
// is run, described and put into the image is always the unpacked one.
type Pack struct {
	Job
	Build   *Build
	Results []pack.Result
}

func (*Pack) String() string { return "pack" }

// Run packs what changed since the last time.
func (s *Pack) Run(ctx context.Context) (string, error) {
	cfg := s.Config.Pack
	if cfg.UPX == "off" {
		return "", Skip{"pack.upx is off"}
	}
	opts := pack.Options{Level: strconv.Itoa(cfg.Level), Required: cfg.UPX == "require", Service: s.service()}
	key, err := keyOf(s.Build.Binaries, opts, upxVersion(ctx), s.startable())
	if err != nil {
		return "", err
	}
	var hit bool
	s.Results, hit, err = cached(s.Job, "pack", key, packedPaths, func() ([]pack.Result, error) {
		return s.all(ctx, opts)
	})
	if err != nil {
		return "", err
	}
	if opts.Required {
		for _, r := range s.Results {
			if r.Platform == build.Native() && !r.Packed {
				return "", fmt.Errorf("pack.upx is require, and the binary for %v cannot be packed: %s", r.Platform, r.Reason)
			}
		}
	}
	return list(s.summary(), unchangedIf(hit)), nil
}

// service is how the binaries are tried, alone in a network of their own.
func (s *Pack) service() sandbox.Service {
	svc := s.Config.Service
	var env []string
	for k, v := range svc.Env {
		env = append(env, k+"="+v)
	}
	slices.Sort(env) // it is part of the key
	return sandbox.Service{Args: svc.Args, Env: env, Port: svc.Port, Health: svc.Health, Start: svc.Start.Std()}
}

func (s *Pack) all(ctx context.Context, opts pack.Options) ([]pack.Result, error) {
	results := make([]pack.Result, len(s.Build.Binaries))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cores())
	for i, b := range s.Build.Binaries {
		group.Go(func() (err error) {
			results[i], err = pack.Pack(ctx, b, optionsFor(opts, b.Platform))
			s.note(b.Platform.String())
			return err
		})
	}
	return results, group.Wait()
}

// optionsFor adds what is asked for a platform: where packing is required it has to
// be proven, and for this machine it can be.
func optionsFor(opts pack.Options, p build.Platform) pack.Options {
	opts.RequireRun = opts.Required && p == build.Native()
	return opts
}

// startable is what this process could start, which decides how much is proven: a
// result of somebody who could start less is not for one who can.
func (s *Pack) startable() []bool {
	list := []bool{os.Geteuid() == 0}
	for _, b := range s.Build.Binaries {
		list = append(list, pack.Startable(b.Platform))
	}
	return list
}

// upxVersion is what UPX calls itself; empty if there is none, which is a
// result that a later installation changes.
func upxVersion(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "upx", "--version").Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

func (s *Pack) summary() string {
	var packed, notRun int
	var before, after int64
	reasons := map[string]bool{}
	reason := ""
	for _, r := range s.Results {
		if r.Packed {
			packed++
			before, after = before+r.StrippedBytes, after+r.PackedBytes
			if r.Reason != "" {
				notRun++
			}
		} else if !reasons[r.Reason] {
			reasons[r.Reason] = true
			if reason == "" {
				reason = fmt.Sprintf("%v stays stripped: %s", r.Platform, r.Reason)
			}
		}
	}
	if len(reasons) > 1 {
		reason += fmt.Sprintf(" (and %d more reasons, see sluice pack -o json)", len(reasons)-1)
	}
	text := fmt.Sprintf("%d of %d packed", packed, len(s.Results))
	if packed > 0 {
		text += fmt.Sprintf(" (%s → %s)", bytesText(before), bytesText(after))
	}
	if notRun > 0 {
		text = list(text, fmt.Sprintf("%d not run here", notRun))
	}
	return list(text, reason)
}

// packedPaths are the files that packing made; where none won there is still
// the unpacked one to hold on to.
func packedPaths(results []pack.Result) []string {
	var paths []string
	for _, r := range results {
		if _, err := os.Stat(r.Path); err == nil {
			paths = append(paths, r.Path)
		}
	}
	return paths
}
