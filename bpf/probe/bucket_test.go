package probe

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/histogram"
	"github.com/sluice-cd/sluice/internal/testenv"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -output-suffix _test -cflags "-O2 -g -Wall -Wextra -Werror -mcpu=v3 -I../include -I/usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" bucket buckettest.bpf.c

func TestTheKernelCountsInTheSameBuckets(t *testing.T) {
	testenv.NeedRoot(t)
	var objs bucketObjects
	if err := loadBucketObjects(&objs, nil); err != nil {
		t.Fatal(err)
	}
	defer objs.Close()
	packet := make([]byte, 64)
	check := func(ns uint64) {
		t.Helper()
		binary.NativeEndian.PutUint64(packet, ns)
		got, _, err := objs.BucketTest.Test(packet)
		if err != nil {
			t.Fatal(err)
		}
		if want := histogram.Index(time.Duration(ns)); int(got) != want {
			t.Fatalf("%d ns: the kernel says bucket %d, the histogram %d", ns, int32(got), want)
		}
	}
	for _, edge := range histogram.EdgesNanos() {
		check(edge - 1)
		check(edge)
		check(edge + 1)
	}
	for ns := range uint64(5000) {
		check(ns)
	}
	for shift := range 63 {
		check(1<<shift - 1)
		check(1 << shift)
		check(1<<shift + 1)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		check(r.Uint64() >> (1 + r.UintN(62)))
	}
}
