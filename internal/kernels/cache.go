package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// partial ends the name of a kernel that is not complete.
const partial = ".partial"

// cacheDir is where unpacked kernels are kept, outside of any
// checkout.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("looking for a folder for kernels: %w", err)
	}
	return filepath.Join(dir, "sluice", "kernels"), nil
}

// get returns the kernel of a suite: the newest that was downloaded before, or
// what the mirror has if there is none or an update is asked for.
func get(ctx context.Context, cache, suite string, update bool) (image, error) {
	dir := filepath.Join(cache, suite)
	img, err := newest(dir)
	if err == nil && !update {
		return img, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return image{}, err
	}
	if err := fetch(ctx, suite, dir); err != nil {
		return image{}, fmt.Errorf("getting the kernel of Debian %s: %w", suite, err)
	}
	return newest(dir)
}

// newest returns the kernel with the highest version in a folder. The error is
// fs.ErrNotExist if there is none.
func newest(dir string) (image, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return image{}, fmt.Errorf("listing kernels: %w", err)
	}
	var versions []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), partial) {
			versions = append(versions, e.Name())
		}
	}
	if len(versions) == 0 {
		return image{}, fmt.Errorf("listing kernels in %s: %w", dir, fs.ErrNotExist)
	}
	version := slices.MaxFunc(versions, compareNumbers)
	return image{file: filepath.Join(dir, version), version: version}, nil
}

// compareNumbers orders versions by the numbers in them: 6.12.9-1 before
// 6.12.10-1.
func compareNumbers(a, b string) int {
	return slices.Compare(numbers(a), numbers(b))
}

func numbers(s string) (list []int) {
	for f := range strings.FieldsFuncSeq(s, func(r rune) bool { return r < '0' || r > '9' }) {
		n, _ := strconv.Atoi(f)
		list = append(list, n)
	}
	return list
}
