package release

import (
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// InvalidError lists every rule that a release breaks.
type InvalidError struct {
	Release  string
	Problems []string
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("release %q: %s", e.Release, strings.Join(e.Problems, "; "))
}

// The expression that semver.org suggests, with the v that git tags carry.
var version = regexp.MustCompile(`^v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?` +
	`(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$`)

var (
	hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)
	digest    = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	platform  = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9]+(/v[0-9]+)?$`)
)

// ValidVersion reports whether v is a Semantic Versioning 2.0.0 version; one
// leading v is allowed.
func ValidVersion(v string) bool { return len(v) <= 128 && version.MatchString(v) }

// problems returns every broken rule of r in one go, in reading order.
func (r Release) problems() []string {
	var out []string
	bad := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if r.Name == "" || !plain(r.Name) {
		bad("name %q is empty or holds control characters", r.Name)
	}
	if !ValidVersion(r.Version) {
		bad("version %q is not a Semantic Versioning 2.0.0 version like v1.4.2", r.Version)
	}
	if !plain(r.Commit) {
		bad("commit %q holds control characters", r.Commit)
	}
	if r.Image != "" && !digest.MatchString(r.Image) {
		bad("image %q is not sha256: and 64 hexadecimal digits", r.Image)
	}
	if len(r.Artifacts) == 0 {
		bad("it has no artifacts")
	}
	var platforms []string
	for _, a := range r.Artifacts {
		if !platform.MatchString(a.Platform) {
			bad("platform %q is not like linux/amd64", a.Platform)
		}
		if slices.Contains(platforms, a.Platform) {
			bad("platform %s is there twice", a.Platform)
		}
		platforms = append(platforms, a.Platform)
	}
	out = append(out, fileProblems(r.Files())...)
	for _, arg := range r.Args {
		if !utf8.ValidString(arg) {
			bad("argument %q is not UTF-8", arg)
		}
	}
	for key, value := range r.Env {
		if key == "" || strings.Contains(key, "=") || !plain(key) || !utf8.ValidString(value) {
			bad("environment variable %q=%q cannot be set", key, value)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func fileProblems(files []File) []string {
	var out []string
	seen := map[string]bool{}
	for _, f := range files {
		if !relative(f.Path) {
			out = append(out, fmt.Sprintf("path %q is not a clean path inside the release", f.Path))
		}
		if seen[f.Path] {
			out = append(out, fmt.Sprintf("path %q is there twice", f.Path))
		}
		seen[f.Path] = true
		if !hexDigest.MatchString(f.SHA256) {
			out = append(out, fmt.Sprintf("sha256 %q of %s is not 64 hexadecimal digits", f.SHA256, f.Path))
		}
		if f.SizeBytes < 0 {
			out = append(out, fmt.Sprintf("size %d of %s is negative", f.SizeBytes, f.Path))
		}
	}
	return out
}

// relative accepts what stays inside the release's directory on every system:
// no .., no leading slash, no drive, no backslash, nothing left to clean.
func relative(p string) bool {
	return p != "." && fs.ValidPath(p) && path.Clean(p) == p && filepath.IsLocal(p) && plain(p) && !strings.ContainsAny(p, `\:`)
}

func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
