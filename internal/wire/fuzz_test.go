package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"
	"unsafe"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

// allocated is what f allocates, at most: other goroutines count, too.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// check decodes anything: the outcome is a Status that survives both forms and
// merges, or an error of the right kind, and memory stays within bounds.
func check(t *testing.T, data []byte) {
	t.Helper()
	var s wire.Status
	var err error
	took := allocated(func() { s, err = wire.Decode(data) })
	if limit := 64*uint64(len(data)) + 1<<20 + 3*uint64(unsafe.Sizeof(probe.Counts{}))*uint64(len(s.Workloads)+wire.MaxWorkloads/100); took > limit {
		t.Errorf("%d bytes made Decode allocate %d", len(data), took)
	}
	sums := map[uint64]*probe.Counts{}
	one := func(string, probe.Workload) (uint64, bool) { return 0, true }
	_, merged := wire.Merge(sums, nil, data, one)
	if (err == nil) != (merged == nil) {
		t.Fatalf("Decode: %v, Merge: %v", err, merged)
	}
	var format *wire.FormatError
	if err != nil {
		if !errors.As(err, &format) || format.What == "" || len(sums) > 0 {
			t.Fatalf("%v is no FormatError, or left %d sums", err, len(sums))
		}
		return
	}
	again := wire.Encode(nil, &s)
	twice, err := wire.Decode(again)
	if err != nil {
		t.Fatalf("what was read cannot be written: %v", err)
	}
	same(t, s, twice)
	if !bytes.Equal(again, wire.Encode(nil, &twice)) {
		t.Error("the same Status gives different bytes")
	}
	if _, err := wire.Merge(sums, data, again, one); err != nil {
		t.Errorf("nothing was counted between a reading and itself: %v", err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var readable wire.Status
	if err := json.Unmarshal(text, &readable); err != nil {
		t.Fatal(err)
	}
	same(t, s, readable)
}

func FuzzDecode(f *testing.F) {
	for _, n := range []int{0, 1, 9} {
		s := sample(1, n)
		f.Add(wire.Encode(nil, &s))
	}
	f.Add([]byte{8, 1})
	f.Add(workload(field(13, 1, 2, 3), field(15, 0, 0xc1, 6, 1), field(16, 1, 1, 0, 5, 1)))
	f.Fuzz(check)
}

func TestDamagedSnapshotsNeverPanic(t *testing.T) {
	s := sample(1, 3)
	whole := wire.Encode(nil, &s)
	for n := range len(whole) {
		if n < 200 || n%97 == 0 {
			check(t, whole[:n])
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		b := bytes.Clone(whole)
		for range 1 + r.IntN(3) {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
		check(t, b)
	}
}
