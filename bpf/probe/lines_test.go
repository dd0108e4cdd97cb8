package probe

import (
	"testing"
	"unsafe"
)

// TestWhatEveryRequestNeedsIsInTwoLinesOfTheCache holds the layouts in conn.h and
// slots.h. The kernel puts eight bytes in front of what a socket stores.
func TestWhatEveryRequestNeedsIsInTwoLinesOfTheCache(t *testing.T) {
	const line, before = 64, 8
	var c probeConn
	var n probeCounts
	for _, tt := range []struct {
		what      string
		got, want uintptr
	}{
		{"conn: the second line", before + unsafe.Offsetof(c.OldestNs), line},
		{"conn: what few need", before + unsafe.Offsetof(c.EarlyNs), 2 * line},
		{"counts: the second line", unsafe.Offsetof(n.Classes), line},
		{"counts: what few need", unsafe.Offsetof(n.Aborted), 2 * line},
		{"counts: the rest of its last line", unsafe.Sizeof(n) % line, 0},
	} {
		if tt.got != tt.want {
			t.Errorf("%s begins at %d, want %d", tt.what, tt.got, tt.want)
		}
	}
}
