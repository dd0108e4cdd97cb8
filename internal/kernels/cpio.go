package main

import (
	"bytes"
	"fmt"
)

// file is one of an initial RAM file system.
type file struct {
	name string
	mode uint32
	data []byte
}

// Modes of files, as in stat(2).
const (
	modeRegular = 0o100000
	modeExecute = 0o755
)

// archive packs files in the format that the kernel unpacks at boot: cpio
// "newc", as Documentation/driver-api/early-userspace/buffer-format.rst of the
// kernel describes it.
func archive(files ...file) []byte {
	var b bytes.Buffer
	for i, f := range files {
		entry(&b, i+1, f)
	}
	entry(&b, 0, file{name: "TRAILER!!!"})
	return b.Bytes()
}

// entry writes a header of thirteen numbers, the name and the data, each padded
// to four bytes.
func entry(b *bytes.Buffer, inode int, f file) {
	links := 1
	b.WriteString("070701")
	for _, field := range []int{
		inode, int(f.mode), 0, 0, links, 0, len(f.data), // inode, mode, owner, group, links, time, size
		0, 0, 0, 0, len(f.name) + 1, 0, // devices, length of the name, checksum (unused)
	} {
		fmt.Fprintf(b, "%08x", field)
	}
	b.WriteString(f.name)
	b.WriteByte(0)
	pad(b)
	b.Write(f.data)
	pad(b)
}

func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}
