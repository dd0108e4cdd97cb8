package pack

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sluice-cd/sluice/internal/build"
)

// upxMagic is in the header that UPX writes near the start of a file.
var upxMagic = []byte("UPX!")

// checkOriginal demands what can only be seen before packing: UPX hides
// program interpreter, sections and build information of what it packs.
func checkOriginal(b build.Binary) error {
	var format *build.FormatError
	if err := build.CheckFormat(b.Path, b.Platform); errors.As(err, &format) {
		return refuse("it is %s, want %s", format.Got, format.Want)
	} else if err != nil {
		return err
	}
	if info, err := buildinfo.ReadFile(b.Path); err == nil {
		for _, s := range info.Settings {
			if s.Key == "CGO_ENABLED" && s.Value == "1" {
				return refuse("it was built with cgo")
			}
		}
	}
	head, size, err := readHead(b.Path)
	if err != nil {
		return err
	}
	if bytes.Contains(head, upxMagic) {
		return refuse("it is packed already")
	}
	if b.Platform.OS != "linux" {
		return nil
	}
	f, err := elf.Open(b.Path)
	if err != nil {
		return refuse("its headers are damaged: %v", err)
	}
	defer f.Close()
	for _, s := range f.Sections {
		if s.Type != elf.SHT_NOBITS && s.Type != elf.SHT_NULL && beyond(s.Offset, s.FileSize, size) {
			return refuse("its section %s ends beyond the file", s.Name)
		}
	}
	_, err = checkSegments(f, size)
	return err
}

// checkPacked looks at the headers of a packed file. UPX leaves no section
// headers, so the program headers have to do.
func checkPacked(path string, p build.Platform) (string, error) {
	if p.OS == "windows" {
		return checkPE(path)
	}
	var format *build.FormatError
	if err := build.CheckFormat(path, p); errors.As(err, &format) {
		return "", refuse("the packed file is %s, want %s", format.Got, format.Want)
	} else if err != nil {
		return "", err
	}
	head, size, err := readHead(path)
	if err != nil {
		return "", err
	}
	if !bytes.Contains(head, upxMagic) {
		return "", refuse("the packed file has no UPX header")
	}
	f, err := elf.Open(path)
	if err != nil {
		return "", refuse("the headers of the packed file are damaged: %v", err)
	}
	defer f.Close()
	return checkSegments(f, size)
}

// checkSegments demands that everything to be loaded is in the file and that
// the program starts in code.
func checkSegments(f *elf.File, size uint64) (string, error) {
	loads, entered := 0, false
	for _, s := range f.Progs {
		if s.Type != elf.PT_LOAD {
			continue
		}
		loads++
		if beyond(s.Off, s.Filesz, size) || s.Filesz > s.Memsz {
			return "", refuse("segment %d ends beyond the file", loads)
		}
		if f.Entry >= s.Vaddr && f.Entry-s.Vaddr < s.Filesz && s.Flags&elf.PF_X != 0 {
			entered = true
		}
	}
	if !entered {
		return "", refuse("entry point %#x is in no executable segment", f.Entry)
	}
	return fmt.Sprintf("%v, %d segments, entry %#x in code", f.Machine, loads, f.Entry), nil
}

// checkPE does the same for a Windows program; amd64 is the only one that UPX
// packs.
func checkPE(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("inspecting a binary: %w", err)
	}
	dropSymbols(data)
	f, err := pe.NewFile(bytes.NewReader(data))
	if err != nil {
		return "", refuse("the headers of the packed file are damaged: %v", err)
	}
	header, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 {
		return "", refuse("the packed file is no program for amd64")
	}
	entry, where := header.AddressOfEntryPoint, ""
	for _, s := range f.Sections {
		if s.Size > 0 && beyond(uint64(s.Offset), uint64(s.Size), uint64(len(data))) {
			return "", refuse("section %s ends beyond the file", s.Name)
		}
		inside := entry >= s.VirtualAddress && entry-s.VirtualAddress < s.VirtualSize
		if inside && s.Characteristics&pe.IMAGE_SCN_MEM_EXECUTE != 0 {
			where = s.Name
		}
	}
	if where == "" || f.Section("UPX0") == nil {
		return "", refuse("entry point %#x is in no section of UPX", entry)
	}
	return fmt.Sprintf("PE for amd64, entry %#x in section %s", entry, where), nil
}

// dropSymbols clears the reference to a symbol table in a PE header: UPX cuts
// the table of a Go program off and keeps the reference, which debug/pe takes
// for damage. Windows ignores it.
func dropSymbols(data []byte) {
	// The file header at 0x3c points to the signature; PointerToSymbolTable
	// and NumberOfSymbols lie 12 bytes behind that.
	const pointer, symbols, length = 0x3c, 12, 8
	if len(data) < pointer+4 {
		return
	}
	at := uint64(binary.LittleEndian.Uint32(data[pointer:])) + symbols
	if !beyond(at, length, uint64(len(data))) {
		clear(data[at : at+length])
	}
}

// beyond tells whether a range leaves a file, without overflow.
func beyond(offset, length, size uint64) bool { return offset > size || length > size-offset }

// readHead returns the first 4 KiB and the size of a file.
func readHead(path string) ([]byte, uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("inspecting a binary: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("inspecting a binary: %w", err)
	}
	head, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return nil, 0, fmt.Errorf("inspecting a binary: %w", err)
	}
	return head, uint64(info.Size()), nil
}
