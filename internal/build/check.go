package build

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"os"
)

// FormatError is an executable that is not what its platform needs.
type FormatError struct {
	Path      string
	Platform  Platform
	Got, Want string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s for %s is %s, want %s", e.Path, e.Platform, e.Got, e.Want)
}

// expected is what the headers of an executable must say.
type expected struct {
	elf   elf.Machine
	macho macho.Cpu
	pe    uint16
}

var machines = map[string]expected{
	"386":     {elf: elf.EM_386},
	"amd64":   {elf.EM_X86_64, macho.CpuAmd64, pe.IMAGE_FILE_MACHINE_AMD64},
	"arm":     {elf: elf.EM_ARM},
	"arm64":   {elf.EM_AARCH64, macho.CpuArm64, pe.IMAGE_FILE_MACHINE_ARM64},
	"loong64": {elf: elf.EM_LOONGARCH},
	"ppc64le": {elf: elf.EM_PPC64},
	"riscv64": {elf: elf.EM_RISCV},
	"s390x":   {elf: elf.EM_S390},
}

// CheckFormat opens the executable at path and compares format and processor
// with the platform. A Linux binary must also be static: without program
// interpreter and without needed libraries. The error is a *FormatError, or
// says why the file cannot be read.
func CheckFormat(path string, p Platform) error {
	want := machines[p.Arch]
	fail := func(got, want string) error { return &FormatError{path, p, got, want} }
	switch p.OS {
	case "linux":
		return checkELF(path, p, want.elf)
	case "darwin":
		f, err := macho.Open(path)
		if err != nil {
			return foreign(path, p, "a Mach-O executable", err)
		}
		defer f.Close()
		if f.Cpu != want.macho || f.Type != macho.TypeExec {
			return fail(f.Cpu.String()+" "+f.Type.String(), want.macho.String()+" "+macho.TypeExec.String())
		}
	case "windows":
		f, err := pe.Open(path)
		if err != nil {
			return foreign(path, p, "a PE executable", err)
		}
		defer f.Close()
		if f.Machine != want.pe || f.Characteristics&pe.IMAGE_FILE_EXECUTABLE_IMAGE == 0 {
			return fail(fmt.Sprintf("PE machine %#x, characteristics %#x", f.Machine, f.Characteristics),
				fmt.Sprintf("an executable for machine %#x", want.pe))
		}
	default:
		return &UnknownPlatformError{Name: p.String()}
	}
	return nil
}

func checkELF(path string, p Platform, machine elf.Machine) error {
	f, err := elf.Open(path)
	if err != nil {
		return foreign(path, p, "an ELF executable", err)
	}
	defer f.Close()
	switch {
	case f.Machine != machine:
		return &FormatError{path, p, f.Machine.String(), machine.String()}
	case f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN:
		return &FormatError{path, p, f.Type.String(), "an executable"}
	}
	for _, segment := range f.Progs {
		if segment.Type == elf.PT_INTERP {
			name, _ := io.ReadAll(segment.Open())
			got := fmt.Sprintf("dynamically linked (interpreter %s)", bytes.TrimRight(name, "\x00"))
			return &FormatError{path, p, got, "a static executable"}
		}
	}
	libs, err := f.ImportedLibraries()
	if err != nil {
		return foreign(path, p, "an ELF executable with a sane dynamic section", err)
	}
	if len(libs) > 0 {
		return &FormatError{path, p, fmt.Sprintf("linked to %v", libs), "a static executable"}
	}
	return nil
}

// foreign tells a file of another format from one that cannot be read.
func foreign(path string, p Platform, want string, err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return fmt.Errorf("checking an executable: %w", err)
	}
	return &FormatError{path, p, fmt.Sprintf("another file (%v)", err), want}
}

// isArchive tells whether the go tool has written the archive of a package,
// which it does when that is no main package.
func isArchive(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, 8)
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) == "!<arch>\n"
}
