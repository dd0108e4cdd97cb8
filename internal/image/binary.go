package image

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// BinaryError reports a file that cannot be the program of an image.
type BinaryError struct {
	Platform string
	Path     string
	Why      string
}

// Error names platform, file and reason.
func (e *BinaryError) Error() string {
	return fmt.Sprintf("image for %s: %s: %s", e.Platform, e.Path, e.Why)
}

type linuxBinary struct {
	platform v1.Platform
	path     string
}

// machines are the ELF machines of the architectures, by their Go names.
var machines = map[string]elf.Machine{
	"386": elf.EM_386, "amd64": elf.EM_X86_64, "arm": elf.EM_ARM, "arm64": elf.EM_AARCH64, "loong64": elf.EM_LOONGARCH,
	"mips64le": elf.EM_MIPS, "ppc64le": elf.EM_PPC64, "riscv64": elf.EM_RISCV, "s390x": elf.EM_S390,
}

// linuxBinaries takes the binaries for Linux, checked and sorted by platform.
func linuxBinaries(all []Binary) ([]linuxBinary, error) {
	var list []linuxBinary
	seen := map[string]bool{}
	for _, b := range all {
		os, rest, _ := strings.Cut(b.Platform, "/")
		arch, variant, _ := strings.Cut(rest, "/")
		if os != "linux" {
			continue
		}
		if arch == "arm" {
			variant = cmp.Or(variant, "v7")
		}
		platform := v1.Platform{OS: os, Architecture: arch, Variant: variant}
		if seen[platform.String()] {
			return nil, &BinaryError{b.Platform, b.Path, "a second binary for the platform"}
		}
		seen[platform.String()] = true
		if why := unfit(b.Path, arch); why != "" {
			return nil, &BinaryError{b.Platform, b.Path, why}
		}
		list = append(list, linuxBinary{platform, b.Path})
	}
	if len(list) == 0 {
		return nil, ErrNoLinux
	}
	slices.SortFunc(list, func(a, b linuxBinary) int {
		return strings.Compare(a.platform.String(), b.platform.String())
	})
	return list, nil
}

// unfit says why a file cannot run in an image that holds no libraries.
func unfit(path, arch string) string {
	file, err := elf.Open(path)
	switch {
	case errors.As(err, new(*fs.PathError)):
		return err.Error()
	case err != nil:
		return fmt.Sprintf("is no program for Linux (%v)", err)
	}
	defer file.Close()
	want, known := machines[arch]
	switch {
	case !known:
		return "unknown architecture " + arch
	case file.Machine != want:
		return fmt.Sprintf("is for %v, not for %v", file.Machine, want)
	case file.Type != elf.ET_EXEC && file.Type != elf.ET_DYN:
		return fmt.Sprintf("is no program (%v)", file.Type)
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return "is linked dynamically, and the image has no libraries (build with CGO_ENABLED=0)"
		}
	}
	return ""
}
