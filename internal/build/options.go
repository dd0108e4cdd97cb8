package build

import (
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// Options says what to build. Dir, Main, Version and OutDir are needed.
type Options struct {
	// Dir is a directory of the module, or above a module that holds Main.
	Dir string
	// Main is the main package: "./app", relative to Dir, or an import path.
	Main string
	// Name is the file name of the binaries, without ".exe".
	// Empty: the last element of Main.
	Name string
	// Version is written into the variable named by Stamp.
	Version string
	// Stamp is "importpath.variable"; empty: "main.version".
	// A variable that does not exist is silently not written.
	Stamp string
	// Tags are build tags.
	Tags []string
	// Platforms to build; empty: DefaultPlatforms.
	Platforms []Platform
	// OutDir receives <os>_<arch>/<name>.
	OutDir string
	// BudgetBytes is the largest allowed binary; 0: no limit.
	BudgetBytes int64
	// MeasureUnstripped links every binary a second time with symbols and
	// debug information, only to learn its size. That link takes about
	// 1.2 times the CPU of the stripped one.
	MeasureUnstripped bool
	// VerifyCache is the Go build cache of VerifyReproducible. A directory
	// that is kept makes later verifications cheaper; it must not be the
	// cache Compile uses. Empty: a temporary one.
	VerifyCache string
}

// Binary is one built executable.
type Binary struct {
	Platform Platform `json:"platform"`
	// Path is OutDir joined with the platform's directory and the name.
	Path string `json:"path"`
	// Digest is "sha256:" and 64 hexadecimal digits.
	Digest    string `json:"digest"`
	SizeBytes int64  `json:"size_bytes"`
	// UnstrippedBytes is 0 when it was not measured.
	UnstrippedBytes int64 `json:"unstripped_bytes,omitempty"`
}

// OptionError is an option that no build could work with.
type OptionError struct{ Option, Value, Want string }

func (e *OptionError) Error() string {
	return fmt.Sprintf("build option %s is %q, want %s", e.Option, e.Value, e.Want)
}

// Everything that ends up inside -ldflags or a file name has to be free of
// blanks and quotes: the go tool splits -ldflags again.
var (
	plain     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]*$`)
	stampName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._~/-]*\.[A-Za-z_][A-Za-z0-9_]*$`)
	tagName   = regexp.MustCompile(`^[A-Za-z0-9_.]+$`)
)

// complete returns o with defaults filled in, or an *OptionError.
func (o Options) complete() (Options, error) {
	if o.Dir == "" {
		o.Dir = "."
	}
	if o.Main == "" {
		return o, &OptionError{"Main", o.Main, `a package, for example "./app"`}
	}
	if o.Stamp == "" {
		o.Stamp = "main.version"
	}
	if len(o.Platforms) == 0 {
		o.Platforms = DefaultPlatforms()
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, fmt.Errorf("resolving %s: %w", o.Dir, err)
	}
	if o.Dir, err = filepath.EvalSymlinks(dir); err != nil {
		return o, &OptionError{"Dir", dir, "an existing directory"}
	}
	if o.Name == "" {
		o.Name = path.Base(filepath.ToSlash(filepath.Join(o.Dir, o.Main)))
	}
	return o, o.check()
}

func (o Options) check() error {
	if !plain.MatchString(o.Name) {
		return &OptionError{"Name", o.Name, "a plain file name"}
	}
	if !plain.MatchString(o.Version) {
		return &OptionError{"Version", o.Version, "a version such as v1.2.3"}
	}
	if !stampName.MatchString(o.Stamp) {
		return &OptionError{"Stamp", o.Stamp, "importpath.variable, for example main.version"}
	}
	for _, tag := range o.Tags {
		if !tagName.MatchString(tag) {
			return &OptionError{"Tags", tag, "build tags of letters, digits, _ and ."}
		}
	}
	dirs := map[string]Platform{}
	for _, p := range o.Platforms {
		if _, err := ParsePlatform(p.String()); err != nil {
			return err
		}
		if q, ok := dirs[p.Dir()]; ok {
			return &OptionError{"Platforms", p.String(), "each platform once, got " + q.String() + " before"}
		}
		dirs[p.Dir()] = p
	}
	return nil
}

// args returns the arguments of the go tool.
func (o Options) args(out, pkg string, strip bool) []string {
	ldflags := "-buildid= -X " + o.Stamp + "=" + o.Version
	if strip {
		ldflags = "-s -w " + ldflags
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=" + ldflags}
	if len(o.Tags) > 0 {
		args = append(args, "-tags="+strings.Join(o.Tags, ","))
	}
	return append(args, "-o", out, pkg)
}
