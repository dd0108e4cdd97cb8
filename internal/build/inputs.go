package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// inputsFormat changes when the meaning of the same inputs changes: when this
// package passes other flags or the layout of OutDir is different.
const inputsFormat = "sluice build 1"

// Inputs returns "sha256:…" of everything that Compile with the same options
// reads: Go's version, flags, the module files, and the contents of every
// local source and embedded file. It does not depend on where the checkout
// lies. A change of a file that only another platform compiles changes it too.
func Inputs(ctx context.Context, o Options) (string, error) {
	o, err := o.complete()
	if err != nil {
		return "", err
	}
	l, err := locate(ctx, o)
	if err != nil {
		return "", err
	}
	files, err := l.sources()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%q\n%q\n", inputsFormat, l.env["GOVERSION"], o.Name, o.Main)
	fmt.Fprintf(h, "%q\nbudget %d\nunstripped %t\n", o.args("", l.pkg, true), o.BudgetBytes, o.MeasureUnstripped)
	fmt.Fprintf(h, "workspace %t\n", l.workspace() != "")
	var platforms []string
	for _, p := range o.Platforms {
		platforms = append(platforms, p.String())
	}
	slices.Sort(platforms)
	fmt.Fprintf(h, "%q\n%q\n", platforms, Platform{}.env())
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return "", fmt.Errorf("hashing the sources: %w", err)
		}
		rel, err := filepath.Rel(o.Dir, file)
		if err != nil {
			return "", fmt.Errorf("hashing the sources: %w", err)
		}
		digest, _, err := Digest(file)
		if err != nil {
			return "", fmt.Errorf("hashing the sources: %w", err)
		}
		fmt.Fprintf(h, "%q %s\n", filepath.ToSlash(rel), digest)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// Digest returns "sha256:…" and the size in bytes of a file.
func Digest(path string) (digest string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return "", 0, fmt.Errorf("reading %s: %w", path, err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), size, nil
}
