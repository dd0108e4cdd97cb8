package build

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"fmt"
	"os"
)

// compare returns a *NotReproducibleError when the two files differ.
func compare(bin Binary, again string, sources, paths []string) error {
	a, err := os.ReadFile(bin.Path)
	if err != nil {
		return fmt.Errorf("comparing with the second build: %w", err)
	}
	b, err := os.ReadFile(again)
	if err != nil {
		return fmt.Errorf("comparing with the second build: %w", err)
	}
	if bytes.Equal(a, b) {
		return nil
	}
	at := firstDifference(a, b)
	return &NotReproducibleError{
		Platform: bin.Platform, Path: bin.Path,
		Offset: int64(at), Section: sectionAt(bin.Path, bin.Platform, uint64(at)),
		SizeBytes: int64(len(a)), AgainBytes: int64(len(b)),
		Cause: cause(bin, again, a, sources, paths),
	}
}

func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// cause names the likeliest reason for the difference, the surest first.
func cause(bin Binary, again string, content []byte, sources, paths []string) string {
	if digest, _, err := Digest(bin.Path); err == nil && bin.Digest != "" && digest != bin.Digest {
		return "the binary was changed after it was built"
	}
	if built, err := os.Stat(bin.Path); err == nil {
		for _, file := range sources {
			if info, err := os.Stat(file); err == nil && info.ModTime().After(built.ModTime()) {
				return file + " was changed after the binary was built"
			}
		}
	}
	if text := buildInfoDifference(bin.Path, again); text != "" {
		return text
	}
	for _, path := range paths {
		if bytes.Contains(content, []byte(path)) {
			return "the path " + path + " is in the binary"
		}
	}
	return "a source or embedded file changed, or the compiler gave other code for the same source"
}

// buildInfoDifference compares what the go tool has noted in both binaries.
func buildInfoDifference(path, again string) string {
	a, errA := buildinfo.ReadFile(path)
	b, errB := buildinfo.ReadFile(again)
	if errA != nil || errB != nil {
		return ""
	}
	if a.GoVersion != b.GoVersion {
		return fmt.Sprintf("built by %s, then by %s", a.GoVersion, b.GoVersion)
	}
	first, second := map[string]string{}, map[string]string{}
	for _, s := range a.Settings {
		first[s.Key] = s.Value
	}
	for _, s := range b.Settings {
		second[s.Key] = s.Value
	}
	for _, s := range append(a.Settings, b.Settings...) {
		if first[s.Key] != second[s.Key] {
			return fmt.Sprintf("build setting %s is %q, then %q", s.Key, first[s.Key], second[s.Key])
		}
	}
	if a.String() != b.String() {
		return "the module versions in the build information differ"
	}
	return ""
}

// sectionAt names the section that holds a file offset, "" when none does.
func sectionAt(path string, p Platform, offset uint64) string {
	within := func(start, size uint64) bool { return offset >= start && offset-start < size }
	switch p.OS {
	case "linux":
		if f, err := elf.Open(path); err == nil {
			defer f.Close()
			for _, s := range f.Sections {
				if s.Type != elf.SHT_NOBITS && within(s.Offset, s.FileSize) {
					return s.Name
				}
			}
		}
	case "darwin":
		if f, err := macho.Open(path); err == nil {
			defer f.Close()
			for _, s := range f.Sections {
				if within(uint64(s.Offset), s.Size) {
					return s.Name
				}
			}
		}
	case "windows":
		if f, err := pe.Open(path); err == nil {
			defer f.Close()
			for _, s := range f.Sections {
				if within(uint64(s.Offset), uint64(s.Size)) {
					return s.Name
				}
			}
		}
	}
	return ""
}
