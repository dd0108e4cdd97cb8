package build

import (
	"fmt"
	gobuild "go/build"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The files of a build are found by following imports from the main package
// through all local modules, whatever the build constraints: that is a union
// over all platforms and tags, needs no run of the go tool per platform, and
// errs only towards too many files. Modules in the module
// cache are pinned by go.sum, the standard library by Go's version.

// sourceExts are the extensions that the go tool may compile with CGO off.
var sourceExts = map[string]bool{".go": true, ".s": true, ".h": true, ".c": true, ".syso": true}

// resolve returns the local directory of an import path, or "".
func (l *layout) resolve(importPath string) string {
	best, dir := -1, ""
	for _, m := range l.modules {
		if importPath != m.path && !strings.HasPrefix(importPath, m.path+"/") || len(m.path) <= best {
			continue
		}
		d := filepath.Join(m.dir, filepath.FromSlash(importPath[len(m.path):]))
		if above(d, "go.mod") == m.dir && isDir(d) {
			best, dir = len(m.path), d
		}
	}
	return dir
}

func isDir(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}

// sources returns every local file the build may read, absolute and sorted.
func (l *layout) sources() ([]string, error) {
	files := slices.Clone(l.files)
	seen := map[string]bool{}
	var queue []string
	visit := func(dir string) {
		if dir != "" && !seen[dir] {
			seen[dir] = true
			queue = append(queue, dir)
		}
	}
	visit(l.mainDir)
	for len(queue) > 0 {
		dir := queue[0]
		queue = queue[1:]
		found, imports, err := packageFiles(dir)
		if err != nil {
			return nil, fmt.Errorf("reading the package in %s: %w", dir, err)
		}
		files = append(files, found...)
		for _, path := range imports {
			visit(l.resolve(path))
			for _, vendor := range l.vendor {
				if d := filepath.Join(vendor, filepath.FromSlash(path)); isDir(d) {
					visit(d)
				}
			}
		}
	}
	if l.mainDir != "" { // profile-guided optimisation is on by default
		if pgo := filepath.Join(l.mainDir, "default.pgo"); fileExists(pgo) {
			files = append(files, pgo)
		}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

func fileExists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// packageFiles returns the files of the package in dir, with what it embeds,
// and its imports.
func packageFiles(dir string) (files, imports []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || strings.HasSuffix(name, "_test.go") ||
			!sourceExts[filepath.Ext(name)] || e.IsDir() {
			continue
		}
		files = append(files, filepath.Join(dir, name))
	}
	all := gobuild.Default
	all.UseAllFiles, all.CgoEnabled = true, true
	// Errors (several package names, a syntax error) are the compiler's to
	// report; what could be read is in the package all the same.
	pkg, _ := all.ImportDir(dir, 0)
	for _, pattern := range pkg.EmbedPatterns {
		embedded, err := embeddedFiles(dir, pattern)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, embedded...)
	}
	return files, pkg.Imports, nil
}

// embeddedFiles expands a go:embed pattern by the rules of package embed.
func embeddedFiles(dir, pattern string) ([]string, error) {
	pattern, all := strings.CutPrefix(pattern, "all:")
	matches, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(pattern)))
	if err != nil {
		return nil, nil // a bad pattern is the compiler's to report
	}
	var files []string
	for _, match := range matches {
		err := filepath.WalkDir(match, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			hidden := strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_")
			switch {
			case path != match && d.IsDir() && (hidden && !all || fileExists(filepath.Join(path, "go.mod"))):
				return filepath.SkipDir
			case d.Type().IsRegular() && (path == match || all || !hidden):
				files = append(files, path)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("listing embedded files: %w", err)
		}
	}
	return files, nil
}
