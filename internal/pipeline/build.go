package pipeline

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"github.com/sluice-cd/sluice/internal/build"
)

// Build compiles the service for every platform.
type Build struct {
	Job
	Binaries []build.Binary
}

func (*Build) String() string { return "build" }

func (s *Build) options() (build.Options, error) {
	cfg := s.Config.Build
	opts := build.Options{
		Dir: cfg.Dir, Main: cfg.Main, Name: s.Config.Name, Version: s.Version, Stamp: cfg.Stamp,
		Tags: cfg.Tags, OutDir: s.path("bin"), BudgetBytes: cfg.Budget.Bytes(), MeasureUnstripped: s.Sizes,
		VerifyCache: filepath.Join(s.Out, "cache", "go-verify"),
	}
	for _, text := range cfg.Platforms {
		p, err := build.ParsePlatform(text)
		if err != nil {
			return opts, err
		}
		opts.Platforms = append(opts.Platforms, p)
	}
	return opts, nil
}

// Run compiles what changed since the last time.
func (s *Build) Run(ctx context.Context) (string, error) {
	opts, err := s.options()
	if err != nil {
		return "", err
	}
	inputs, err := build.Inputs(ctx, opts)
	if err != nil {
		return "", err
	}
	key, err := keyOf(inputs, opts)
	if err != nil {
		return "", err
	}
	var done atomic.Int32
	var hit bool
	s.Binaries, hit, err = cached(s.Job, "build", key, binaryPaths, func() ([]build.Binary, error) {
		return build.Compile(ctx, opts, func(p build.Platform) {
			s.note(fmt.Sprintf("%d/%d %v", done.Add(1), len(opts.Platforms), p))
		})
	})
	if err != nil {
		return "", err
	}
	reproduced := ""
	if s.Verify {
		s.note("building everything again elsewhere")
		if err := build.VerifyReproducible(ctx, opts, s.Binaries); err != nil {
			return "", err
		}
		reproduced = "reproduced bit for bit"
	}
	return list(s.sizes(), reproduced, unchangedIf(hit)), nil
}

// sizes says how large the binary of this machine is, or the first one.
func (s *Build) sizes() string {
	if len(s.Binaries) == 0 {
		return "nothing"
	}
	b := s.Binaries[0]
	if native, ok := s.native(); ok {
		b = native
	}
	text := fmt.Sprintf("%d platforms, %v %s", len(s.Binaries), b.Platform, bytesText(b.SizeBytes))
	if b.UnstrippedBytes > 0 {
		text += fmt.Sprintf(" (%s before stripping)", bytesText(b.UnstrippedBytes))
	}
	return text
}

// native is the binary that runs on this machine.
func (s *Build) native() (build.Binary, bool) {
	for _, b := range s.Binaries {
		if b.Platform == build.Native() {
			return b, true
		}
	}
	return build.Binary{}, false
}

func binaryPaths(list []build.Binary) []string {
	paths := make([]string, len(list))
	for i, b := range list {
		paths[i] = b.Path
	}
	return paths
}

func unchangedIf(hit bool) string {
	if hit {
		return "unchanged"
	}
	return ""
}
