package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// circles is a kernel that does nothing for ever: a boot sector that says it is
// a kernel (Documentation/arch/x86/boot.rst), with a jump to itself.
func circles(t *testing.T) string {
	t.Helper()
	const entry, magic, protocol, flags = 0x200, 0x202, 0x206, 0x211
	raw := make([]byte, 16<<10)
	copy(raw[entry:], []byte{0xeb, 0xfe})
	copy(raw[magic:], "HdrS")
	copy(raw[protocol:], []byte{2, 2})
	raw[flags] = 1 // loaded high
	return write(t, raw)
}

func write(t *testing.T, raw []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(file, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAMachineThatHangsIsEnded(t *testing.T) {
	testenv.Need(t, emulator)
	m := machine{kernel: circles(t), initramfs: archive(), limit: time.Second}
	_, err := m.run(t.Context())
	var console *ConsoleError
	if !errors.As(err, &console) || !strings.Contains(err.Error(), "not done after 1s") {
		t.Errorf("%v, want that it was not done in time", err)
	}
}

func TestAMachineEndsWhenSomebodyWantsIt(t *testing.T) {
	testenv.Need(t, emulator)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	m := machine{kernel: circles(t), initramfs: archive(), limit: time.Minute}
	if _, err := m.run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cancelled", err)
	}
}

func TestTheLastWordsOfAMachineAreTold(t *testing.T) {
	testenv.Need(t, emulator)
	m := machine{kernel: write(t, []byte("no kernel")), initramfs: archive(), limit: time.Minute}
	_, err := m.run(t.Context())
	var console *ConsoleError
	if !errors.As(err, &console) || !strings.Contains(err.Error(), "kernel") || errors.Unwrap(console) == nil {
		t.Errorf("%v, want what the emulator complained of", err)
	}
}

func TestOnlyACompleteReportIsDone(t *testing.T) {
	const begin, middle, end = `{"kernel":"6.1.0"}` + "\r\n", `{"outcome":{"name":"a","needs":"5.10"}}` + "\r\n", `{"done":true}` + "\r\n"
	for name, tt := range map[string]struct {
		text     string
		outcomes int
		done     bool
		fails    bool
	}{
		"complete":         {begin + middle + middle + end, 2, true, false},
		"ended early":      {begin + middle, 1, false, false},
		"nothing":          {"", 0, false, false},
		"cut in a line":    {begin + middle[:9], 0, false, true},
		"something else":   {"Kernel panic\r\n", 0, false, true},
		"an endless line":  {strings.Repeat("x", 2<<20), 0, false, true},
		"done at the very": {end, 0, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, done, err := read(strings.NewReader(tt.text))
			if len(r.outcomes) != tt.outcomes || done != tt.done || (err != nil) != tt.fails {
				t.Errorf("%d outcomes, done %v, %v", len(r.outcomes), done, err)
			}
		})
	}
}

func TestTheTailKeepsTheEnd(t *testing.T) {
	var all strings.Builder
	tail := tail{to: &all}
	for range 1000 {
		if n, err := tail.Write([]byte("many words\r\n")); n != 12 || err != nil {
			t.Fatal(n, err)
		}
	}
	_, _ = tail.Write([]byte("the last\r\n"))
	if last := tail.last(); len(last) != 15 || last[14] != "the last" || last[0] != "many words" {
		t.Errorf("%q", last)
	}
	if all.Len() != 1000*12+10 {
		t.Errorf("%d bytes were passed on", all.Len())
	}
}

func FuzzRead(f *testing.F) {
	f.Add(`{"kernel":"6.1.0"}` + "\n" + `{"outcome":{"name":"a"}}` + "\n" + `{"done":true}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, _, err := read(strings.NewReader(text))
		if err == nil && len(r.outcomes) > len(text) {
			t.Errorf("%d outcomes from %d bytes", len(r.outcomes), len(text))
		}
	})
}
