package hook

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/verdict"
)

func TestReferencesAreTakenApart(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for ref, want := range map[string][2]string{
		"registry.example.com:5000/team/shop:1.2.0@" + digest: {"1.2.0", digest},
		"registry.example.com:5000/team/shop@" + digest:       {"", digest},
		"shop:1.2.0":                     {"1.2.0", ""},
		"registry.example.com:5000/shop": {"", ""},
		"shop@md5:abc":                   {"", ""},
	} {
		if version, is := versionOf(ref), digestOf(ref); version != want[0] || is != want[1] {
			t.Errorf("%s has version %q and digest %q, want %q", ref, version, is, want)
		}
	}
	if !same("a:1@"+digest, "b:2@"+digest) || same("a:1", "a:1") {
		t.Error("the digest tells what is the same, and nothing else does")
	}
}

func TestOfTooManyLooksTheLastAreKept(t *testing.T) {
	const limit = 10 << 10
	looks := make([]canary.Look, 1000)
	for i := range looks {
		looks[i].Start = time.Unix(int64(i)*7919%1e9, int64(i)*104729%1e9)
		for j := range 40 {
			looks[i].Canary.Latency.Observe(time.Duration(1+(i*31+j*j*977)%100000) * time.Microsecond)
		}
	}
	packed, err := squeeze(looks, limit)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := verdict.DecodeLooks(raw)
	if err != nil {
		t.Fatal(err)
	}
	if len(packed) > limit || len(kept) == 0 || len(kept) == len(looks) || !kept[len(kept)-1].Start.Equal(looks[len(looks)-1].Start) {
		t.Errorf("%d of %d looks are kept in %d bytes", len(kept), len(looks), len(packed))
	}
}

func TestASentenceIsOneLine(t *testing.T) {
	v := Verdict{Hook: "sync", Service: "shop", Release: "1.2.0", Verdict: "fail", Trigger: "slo", Reason: "slow\nvery slow", Hint: "be\tquick", Reverted: "git reverted"}
	want := "shop 1.2.0: fail (slo) at sync: slow very slow — be quick; git reverted"
	if got := v.Sentence(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
