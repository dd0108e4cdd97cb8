package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Compile builds Main for every platform, as many at a time as there are
// cores, and calls report (which may be nil) after each, one at a time.
//
// The binaries appear in OutDir together, after all were built, checked and
// found within the budget; with an error OutDir is as it was. Errors are
// *OptionError, *UnknownPlatformError, *NoModuleError, *NoGoError,
// *CompileError, *NotMainError, *FormatError and *BudgetError (of several,
// all joined).
func Compile(ctx context.Context, o Options, report func(Platform)) ([]Binary, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	l, err := locate(ctx, o)
	if err != nil {
		return nil, err
	}
	if o.OutDir == "" {
		return nil, &OptionError{"OutDir", "", "a directory"}
	}
	stage, err := newStage(o.OutDir, stagePrefix)
	if err != nil {
		return nil, err
	}
	defer removeAll(stage)
	b := &builder{Options: o, layout: l, stage: stage, report: report}
	binaries, err := b.all(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.withinBudget(binaries); err != nil {
		return nil, err
	}
	return binaries, b.publish(binaries)
}

// builder builds into a staging directory.
type builder struct {
	Options
	layout *layout
	stage  string
	env    []string // added to the environment of every run

	mu     sync.Mutex
	report func(Platform)
}

// all builds every platform. The first error stops the others.
func (b *builder) all(ctx context.Context) ([]Binary, error) {
	binaries := make([]Binary, len(b.Platforms))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, p := range b.Platforms {
		g.Go(func() error {
			var err error
			if binaries[i], err = b.one(ctx, p); err != nil {
				return err
			}
			if b.report != nil {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.report(p)
			}
			return nil
		})
	}
	return binaries, g.Wait()
}

// staged returns where the binary of p is built.
func (b *builder) staged(p Platform) string {
	return filepath.Join(b.stage, p.Dir(), b.Name+p.Exe())
}

func (b *builder) one(ctx context.Context, p Platform) (Binary, error) {
	out := b.staged(p)
	bin := Binary{Platform: p, Path: filepath.Join(b.OutDir, p.Dir(), b.Name+p.Exe())}
	if err := b.link(ctx, p, out, true); err != nil {
		return bin, err
	}
	if err := CheckFormat(out, p); err != nil {
		if isArchive(out) {
			return bin, &NotMainError{b.Main}
		}
		return bin, err
	}
	if b.MeasureUnstripped {
		size, err := b.unstripped(ctx, p)
		if err != nil {
			return bin, err
		}
		bin.UnstrippedBytes = size
	}
	var err error
	if bin.Digest, bin.SizeBytes, err = Digest(out); err != nil {
		return bin, fmt.Errorf("measuring %s: %w", bin.Path, err)
	}
	return bin, nil
}

// unstripped links once more, with symbols and debug information.
func (b *builder) unstripped(ctx context.Context, p Platform) (int64, error) {
	out := b.staged(p) + ".unstripped"
	if err := b.link(ctx, p, out, false); err != nil {
		return 0, err
	}
	info, err := os.Stat(out)
	if err != nil {
		return 0, fmt.Errorf("measuring the unstripped binary: %w", err)
	}
	return info.Size(), os.Remove(out)
}

func (b *builder) link(ctx context.Context, p Platform, out string, strip bool) error {
	tmp := filepath.Join(b.stage, "tmp")
	for _, dir := range []string{tmp, filepath.Dir(out)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("creating the staging directory: %w", err)
		}
	}
	env := append([]string{"GOTMPDIR=" + tmp}, b.env...)
	t := tool{dir: b.layout.dir, env: b.layout.env.environ(p, env...), args: b.args(out, b.layout.pkg, strip)}
	said, err := t.run(ctx)
	var noGo *NoGoError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("compiling for %s: %w", p, ctx.Err())
	case errors.As(err, &noGo):
		return err
	}
	return &CompileError{Platform: p, Output: said.telling(), Err: err}
}

func (b *builder) withinBudget(binaries []Binary) error {
	var errs []error
	for _, bin := range binaries {
		if b.BudgetBytes > 0 && bin.SizeBytes > b.BudgetBytes {
			errs = append(errs, &BudgetError{bin.Platform, b.Name, bin.SizeBytes, b.BudgetBytes})
		}
	}
	return errors.Join(errs...)
}

// publish moves the staged binaries to their places.
func (b *builder) publish(binaries []Binary) error {
	for _, bin := range binaries {
		if err := os.MkdirAll(filepath.Dir(bin.Path), 0o755); err != nil {
			return fmt.Errorf("publishing %s: %w", bin.Path, err)
		}
		if err := os.Rename(b.staged(bin.Platform), bin.Path); err != nil {
			return fmt.Errorf("publishing %s: %w", bin.Path, err)
		}
	}
	return nil
}
