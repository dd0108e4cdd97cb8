package main

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
)

// unpackArchive reads an archive as the kernel does, from the description of the format.
func unpackArchive(t *testing.T, raw []byte) (files []file) {
	t.Helper()
	number := func(i int) int {
		n, err := strconv.ParseUint(string(raw[6+8*i:14+8*i]), 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		return int(n)
	}
	align := func(n int) int { return (n + 3) &^ 3 }
	for {
		if string(raw[:6]) != "070701" {
			t.Fatalf("no entry begins with %q", raw[:6])
		}
		mode, size, length := number(1), number(6), number(11)
		name, ok := strings.CutSuffix(string(raw[110:110+length]), "\x00")
		if !ok {
			t.Fatalf("the name %q does not end with a zero", name)
		}
		data := raw[align(110+length):]
		if name == "TRAILER!!!" {
			return files
		}
		files = append(files, file{name: name, mode: uint32(mode), data: data[:size]})
		raw = data[align(size):]
	}
}

func TestAnArchiveHasEveryFile(t *testing.T) {
	var want []file
	for n := range 9 { // every kind of padding
		want = append(want, file{name: strings.Repeat("n", n+1), mode: modeRegular | modeExecute, data: bytes.Repeat([]byte{0xff}, 8-n)})
	}
	raw := archive(want...)
	if len(raw)%4 != 0 {
		t.Errorf("%d bytes are no multiple of four", len(raw))
	}
	got := unpackArchive(t, raw)
	if len(got) != len(want) {
		t.Fatalf("%d files, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].name != want[i].name || got[i].mode != want[i].mode || !bytes.Equal(got[i].data, want[i].data) {
			t.Errorf("file %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}
