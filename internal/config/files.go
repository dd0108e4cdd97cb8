package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// named is a path that the file names.
type named struct {
	path, name string
	dir, later bool // a folder; may be created only later
}

func (c *Config) files() []named {
	list := []named{
		{path: "build.dir", name: c.Build.Dir, dir: true},
		{path: "sign.key", name: c.Sign.Key, later: true},
		{path: "sign.public_key", name: c.Sign.PublicKey, later: true},
		{path: "sign.keyless.trusted_root", name: c.Sign.Keyless.TrustedRoot, later: true},
		{path: "bpf.object", name: c.BPF.Object},
		{path: "bpf.bundle", name: c.BPF.Bundle},
	}
	for i, dir := range c.Policy.Dirs {
		list = append(list, named{path: fmt.Sprintf("policy.dirs[%d]", i), name: dir, dir: true})
	}
	return list
}

// checkFiles reports files and folders that are named but not there. It expects absolute paths.
func (c *Config) checkFiles(p *problems) {
	for _, f := range c.files() {
		if f.name == "" || f.later || !p.fine(f.path) {
			continue
		}
		switch info, err := os.Stat(f.name); {
		case err != nil:
			p.add(c.placeOf(f.path), f.path, "%s: %v", f.name, reason(err))
		case f.dir && !info.IsDir():
			p.add(c.placeOf(f.path), f.path, "%s is not a folder", f.name)
		case !f.dir && !info.Mode().IsRegular():
			p.add(c.placeOf(f.path), f.path, "%s is not a regular file", f.name)
		}
	}
	if p.fine("build", "build.main", "build.dir") {
		c.checkMain(p)
	}
}

// checkMain reports a main package that is not there or belongs to another module than build.dir.
func (c *Config) checkMain(p *problems) {
	fault := func(path, format string, args ...any) { p.add(c.placeOf(path), path, format, args...) }
	module := moduleOf(c.Build.Dir)
	if module == "" {
		fault("build.dir", "there is no go.mod in %s or above it", c.Build.Dir)
		return
	}
	main := c.Build.Main
	if !strings.HasPrefix(main, ".") && !filepath.IsAbs(main) {
		return // an import path: the go command finds it
	}
	if !filepath.IsAbs(main) {
		main = filepath.Join(c.Build.Dir, main)
	}
	if sources, _ := filepath.Glob(filepath.Join(main, "*.go")); len(sources) == 0 {
		fault("build.main", "there are no Go files in %s", main)
		return
	}
	if other := moduleOf(main); other != module {
		inner, err := filepath.Rel(other, main)
		if err != nil || other == "" {
			fault("build.main", "%s does not belong to the module in %s", main, module)
			return
		}
		fault("build.main", "%s belongs to another module: write dir: %s and main: %s", main, other, dotted(inner))
	}
}

// moduleOf returns the folder of the go.mod that holds for dir, or "".
func moduleOf(dir string) string {
	for {
		if info, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil && info.Mode().IsRegular() {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

// reason returns the bare reason of a file system error.
func reason(err error) string {
	if os.IsNotExist(err) {
		return "there is no such file or folder"
	}
	return err.Error()
}
