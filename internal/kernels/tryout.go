package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// tryout is one run of the command.
type tryout struct {
	only, document                  string
	objects                         []string
	write, compare, update, verbose bool
	limit                           time.Duration
}

func names() string {
	var list []string
	for _, k := range kernels {
		list = append(list, k.name)
	}
	return strings.Join(list, ", ")
}

func (t *tryout) run(ctx context.Context) error {
	chosen := slices.DeleteFunc(slices.Clone(kernels), func(k kernel) bool { return t.only != "" && k.name != t.only })
	if len(chosen) == 0 {
		return fmt.Errorf("unknown kernel %q (known: %s)", t.only, names())
	}
	if (t.only != "" || len(t.objects) > 0) && (t.write || t.compare) {
		return errors.New("the table has all kernels and all that is ours: leave out -kernel and -object")
	}
	if _, err := exec.LookPath(emulator); err != nil {
		return fmt.Errorf("%w: apt-get install --no-install-recommends qemu-system-x86", err)
	}
	files, err := build(ctx, map[string]string{"init": "internal/kernels/guest", "sluice-probe": "cmd/sluice-probe"})
	if err != nil {
		return err
	}
	for _, name := range t.objects {
		data, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("reading an object: %w", err)
		}
		files = append(files, file{name: filepath.Base(name), mode: modeRegular, data: data})
	}
	columns, err := t.tryAll(ctx, chosen, archive(files...))
	if len(columns) > 0 {
		fmt.Printf("%s\n%s\n", table(columns), versions(columns))
	}
	if err := errors.Join(err, verdict(os.Stderr, columns)); err != nil {
		return err
	}
	if t.write {
		return writeTable(t.document, columns)
	}
	if t.compare {
		return compareTable(t.document, columns)
	}
	return nil
}

// build compiles programs for the machines: files by name, packages of ours.
func build(ctx context.Context, programs map[string]string) (files []file, err error) {
	dir, err := os.MkdirTemp("", "sluice-kernels-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for programs: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for name, folder := range programs {
		to := filepath.Join(dir, name)
		cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", to, "github.com/sluice-cd/sluice/"+folder)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("building %s: %w", folder, err)
		}
		data, err := os.ReadFile(to)
		if err != nil {
			return nil, fmt.Errorf("reading a program: %w", err)
		}
		files = append(files, file{name: name, mode: modeRegular | modeExecute, data: data})
	}
	return files, nil
}

// tryAll runs a machine for each kernel, two at once. It returns what was found
// on those that could be tried, also with an error.
func (t *tryout) tryAll(ctx context.Context, chosen []kernel, initramfs []byte) ([]column, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	atOnce := 2
	if t.verbose {
		atOnce = 1 // or nobody could read the consoles
	}
	places := make(chan struct{}, atOnce)
	columns, errs := make([]column, len(chosen)), make([]error, len(chosen))
	var wg sync.WaitGroup
	for i, k := range chosen {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			if columns[i], errs[i] = t.try(ctx, k, cache, initramfs); errs[i] != nil {
				errs[i] = fmt.Errorf("kernel %s: %w", k.name, errs[i])
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	columns = slices.DeleteFunc(columns, func(c column) bool { return c.version == "" })
	return columns, errors.Join(errs...)
}

func (t *tryout) try(ctx context.Context, k kernel, cache string, initramfs []byte) (column, error) {
	img, err := get(ctx, cache, k.suite, t.update)
	if err != nil {
		return column{}, err
	}
	begin := time.Now()
	m := machine{kernel: img.file, initramfs: initramfs, limit: t.limit}
	if t.verbose {
		m.console = os.Stderr
	}
	r, err := m.run(ctx)
	if err != nil {
		return column{}, err
	}
	fmt.Fprintf(os.Stderr, "kernels: %s (%s) tried in %v\n", k.name, r.kernel, time.Since(begin).Round(time.Second/10))
	return column{kernel: k, version: img.version, report: r}, nil
}
