package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// module is a Go module whose source lies on this machine and may change:
// the main module, a workspace member, or a replacement by a directory.
type module struct{ path, dir string }

// layout says where the go tool runs and what it may read there.
type layout struct {
	dir     string // working directory of the go tool
	pkg     string // its argument
	mainDir string // directory of the main package, "" when not on this machine
	env     goEnv
	modules []module
	vendor  []string // vendor directories in force
	files   []string // go.mod, go.sum, go.work, … ; absolute
}

// locate finds the module that Main belongs to. The main package may lie in a
// module below Dir: the go tool then runs there.
func locate(ctx context.Context, o Options) (*layout, error) {
	l := &layout{dir: o.Dir, pkg: o.Main}
	if isPath(o.Main) {
		if err := l.atDir(o.Dir, o.Main); err != nil {
			return nil, err
		}
	} else if dir := nested(o.Dir, o.Main); dir != "" {
		if err := l.atDir(o.Dir, dir); err != nil {
			return nil, err
		}
	}
	var err error
	if l.env, err = readGoEnv(ctx, l.dir); err != nil {
		return nil, err
	}
	work := l.workspace()
	if root := above(l.dir, "go.mod"); root != "" {
		err = l.addMain(root)
	} else if work == "" {
		err = &NoModuleError{l.dir}
	}
	if err == nil && work != "" {
		err = l.addWorkspace(work)
	}
	if err != nil {
		return nil, err
	}
	if l.mainDir == "" {
		l.mainDir = l.resolve(l.pkg)
	}
	return l, nil
}

func isPath(main string) bool {
	return main == "." || main == ".." || filepath.IsAbs(main) ||
		strings.HasPrefix(main, "./") || strings.HasPrefix(main, "../")
}

// atDir points the layout at a main package given as a directory.
func (l *layout) atDir(base, main string) error {
	dir := main
	if !filepath.IsAbs(main) {
		dir = filepath.Join(base, main)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return &OptionError{"Main", main, "an existing directory in " + base}
	}
	root := above(real, "go.mod")
	if root == "" {
		return &NoModuleError{real}
	}
	rel, err := filepath.Rel(root, real)
	if err != nil {
		return fmt.Errorf("locating the main package: %w", err)
	}
	l.dir, l.mainDir, l.pkg = root, real, "./"+filepath.ToSlash(rel)
	return nil
}

// nested returns the directory of an import path that, seen from the module
// at base, lies in a module of its own below it; else "".
func nested(base, importPath string) string {
	root := above(base, "go.mod")
	if root == "" {
		return ""
	}
	data, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return ""
	}
	suffix, ok := strings.CutPrefix(importPath, modfile.ModulePath(data)+"/")
	dir := filepath.Join(root, filepath.FromSlash(suffix))
	if !ok || above(dir, "go.mod") == root {
		return ""
	}
	return dir
}

// above returns the nearest directory at or above dir that has the file.
func above(dir, name string) string {
	for {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

// workspace returns the path of the go.work in force, or "".
func (l *layout) workspace() string {
	if work := l.env["GOWORK"]; work != "off" {
		return work
	}
	return ""
}

// addMain records a main module and what its go.mod replaces by directories.
func (l *layout) addMain(dir string) error {
	file := filepath.Join(dir, "go.mod")
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading a local module: %w", err)
	}
	mod, err := modfile.Parse(file, data, nil)
	if err != nil {
		return fmt.Errorf("reading a local module: %w", err)
	}
	l.addFiles(dir, "go.mod", "go.sum")
	l.addVendor(dir)
	if mod.Module != nil && !slices.ContainsFunc(l.modules, func(m module) bool { return m.dir == dir }) {
		l.modules = append(l.modules, module{mod.Module.Mod.Path, dir})
	}
	l.addReplaced(dir, mod.Replace)
	return nil
}

// addReplaced records replacements by directories. One that does not exist is
// the go tool's to report, if any package is needed from it.
func (l *layout) addReplaced(dir string, replace []*modfile.Replace) {
	for _, r := range replace {
		if r.New.Version != "" {
			continue
		}
		local := filepath.FromSlash(r.New.Path)
		if !filepath.IsAbs(local) {
			local = filepath.Join(dir, local)
		}
		if l.addFiles(local, "go.mod", "go.sum") {
			l.modules = append(l.modules, module{r.Old.Path, local})
		}
	}
}

func (l *layout) addWorkspace(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the workspace: %w", err)
	}
	work, err := modfile.ParseWork(file, data, nil)
	if err != nil {
		return fmt.Errorf("reading the workspace: %w", err)
	}
	dir := filepath.Dir(file)
	l.addFiles(dir, filepath.Base(file), strings.TrimSuffix(filepath.Base(file), ".work")+".work.sum")
	l.addVendor(dir)
	for _, use := range work.Use {
		member := filepath.FromSlash(use.Path)
		if !filepath.IsAbs(member) {
			member = filepath.Join(dir, member)
		}
		if err := l.addMain(member); err != nil {
			return err
		}
	}
	l.addReplaced(dir, work.Replace)
	return nil
}

func (l *layout) addVendor(dir string) {
	vendor := filepath.Join(dir, "vendor")
	if l.addFiles(vendor, "modules.txt") {
		l.vendor = append(l.vendor, vendor)
	}
}

// addFiles records those of the named files that exist and says if any does.
func (l *layout) addFiles(dir string, names ...string) bool {
	found := false
	for _, name := range names {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			l.files = append(l.files, file)
			found = true
		}
	}
	return found
}
