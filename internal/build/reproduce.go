package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// NotReproducibleError is a binary that a second build did not give again.
type NotReproducibleError struct {
	Platform Platform
	Path     string
	// Offset of the first byte that differs, and where in the file that is.
	Offset  int64
	Section string
	// Sizes of the binary and of the second build.
	SizeBytes, AgainBytes int64
	// Cause is the likeliest reason.
	Cause string
}

func (e *NotReproducibleError) Error() string {
	where := fmt.Sprintf("byte %d", e.Offset)
	if e.Section != "" {
		where += " (in " + e.Section + ")"
	}
	return fmt.Sprintf("%s for %s is not reproducible: the second build differs from %s on (%d bytes, then %d): %s",
		e.Path, e.Platform, where, e.SizeBytes, e.AgainBytes, e.Cause)
}

// VerifyReproducible builds the given binaries again from a copy of the
// sources in another directory, with another build cache, and compares every
// byte. Compile's options go with it; the platforms are those of the binaries.
// The module cache is shared: go.sum pins its content.
//
// The copy holds exactly the files that Inputs hashes, so a build that reads
// anything else does not get through here. The error is a
// *NotReproducibleError, or one of Compile's.
func VerifyReproducible(ctx context.Context, o Options, binaries []Binary) error {
	o.Platforms = nil
	for _, bin := range binaries {
		o.Platforms = append(o.Platforms, bin.Platform)
	}
	if len(o.Platforms) == 0 {
		return &OptionError{"Platforms", "", "at least one binary to verify"}
	}
	o.MeasureUnstripped = false
	o, err := o.complete()
	if err != nil {
		return err
	}
	l, err := locate(ctx, o)
	if err != nil {
		return err
	}
	tmp, err := newStage(os.TempDir(), copyPrefix)
	if err != nil {
		return err
	}
	defer removeAll(tmp)
	files, err := l.sources()
	if err != nil {
		return err
	}
	b, err := secondBuilder(ctx, o, l, files, tmp)
	if err != nil {
		return err
	}
	if _, err := b.all(ctx); err != nil {
		return fmt.Errorf("building again from a copy: %w", err)
	}
	for _, bin := range binaries {
		if err := compare(bin, b.staged(bin.Platform), files, []string{o.Dir, tmp}); err != nil {
			return err
		}
	}
	return nil
}

// secondBuilder copies the sources below tmp and returns a builder for them.
func secondBuilder(ctx context.Context, o Options, l *layout, files []string, tmp string) (*builder, error) {
	base := commonDir(append(slices.Clone(files), filepath.Join(l.dir, "x")))
	moved := func(path string) string {
		if rel, err := filepath.Rel(base, path); err == nil && filepath.IsLocal(rel) {
			return filepath.Join(tmp, "source", rel)
		}
		return path
	}
	for _, file := range files {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("copying the sources: %w", ctx.Err())
		}
		if err := copyFile(file, moved(file)); err != nil {
			return nil, fmt.Errorf("copying the sources: %w", err)
		}
	}
	cache := o.VerifyCache
	if cache == "" {
		cache = filepath.Join(tmp, "cache")
	}
	cache, err := filepath.Abs(cache)
	if err != nil {
		return nil, fmt.Errorf("locating the second build cache: %w", err)
	}
	copied := *l
	copied.dir = moved(l.dir)
	b := &builder{Options: o, layout: &copied, stage: filepath.Join(tmp, "out")}
	b.env = []string{"GOCACHE=" + cache, "GOCACHEPROG="}
	if work := l.workspace(); work != "" {
		b.env = append(b.env, "GOWORK="+moved(work))
	} else {
		b.env = append(b.env, "GOWORK=off")
	}
	return b, os.MkdirAll(copied.dir, 0o755)
}

// commonDir returns the deepest directory that holds all files.
func commonDir(files []string) string {
	dir := filepath.Dir(files[0])
	for _, file := range files[1:] {
		for !strings.HasPrefix(file, dir+string(filepath.Separator)) && dir != filepath.Dir(dir) {
			dir = filepath.Dir(dir)
		}
	}
	return dir
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}
