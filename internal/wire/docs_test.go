package wire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

// documented is the example of docs/snapshot.md.
func documented() wire.Status {
	w := probe.Workload{Cgroup: 4711, Addr: netip.MustParseAddrPort("10.0.0.1:8080")}
	c := probe.Counts{
		Begun: 15, Requests: 14, Aborted: 1, Classes: [6]uint64{0, 0, 13, 0, 0, 1}, Connections: 2,
		Segments: 20, BytesIn: 1200, BytesOut: 9000, LatencySum: 75 * time.Millisecond, First: start.Add(time.Second), FirstError: start.Add(2 * time.Second),
	}
	c.Latency.Add(396, 1)
	c.Latency.Add(397, 8)
	c.Latency.Add(400, 5)
	c.Complete.Add(400, 14)
	s := wire.Status{
		Snapshot: probe.Snapshot{At: start.Add(3 * time.Second), Workloads: map[probe.Workload]probe.Counts{w: c}, Loss: probe.Loss{Unmeasured: 3}},
		Node:     "node-1", Start: wire.Start{Boot: "3f0f36a8-54dc-4e9a-9f51-a7a53c3b1a2b", Loaded: start},
		Loaded:    bpf.Loaded{Digest: "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"},
		Budget:    wire.Budget{Share: 0.004, Limit: 0.01},
		Exemplars: []probe.Exemplar{{Workload: w, At: start.Add(2 * time.Second), Took: 5 * time.Millisecond, Status: 503, GRPC: -1, Trace: probe.TraceID{0x4b, 0xf9, 0x2f, 0x35}}},
	}
	return s
}

// block is the first code block of a language in a page.
func block(t *testing.T, page, language string) string {
	t.Helper()
	_, rest, found := strings.Cut(page, "```"+language+"\n")
	text, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatalf("docs/snapshot.md has no block of %s", language)
	}
	return text
}

func TestTheExampleInTheDocumentationIsTrue(t *testing.T) {
	raw, err := os.ReadFile("../../docs/snapshot.md")
	if err != nil {
		t.Fatal(err)
	}
	page, want := string(raw), documented()
	var readable wire.Status
	if err := json.Unmarshal([]byte(block(t, page, "json")), &readable); err != nil {
		t.Fatal(err)
	}
	same(t, want, readable)
	var plain, shown bytes.Buffer
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Compact(&shown, []byte(block(t, page, "json"))); err != nil {
		t.Fatal(err)
	}
	if plain.Write(text); plain.String() != shown.String() {
		t.Errorf("the page shows\n%s\nbut this is written:\n%s", shown.String(), plain.String())
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(block(t, page, "hex")), ""))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, wire.Encode(nil, &want)) {
		t.Errorf("the bytes of the page are not what is written:\n%x", wire.Encode(nil, &want))
	}
	got, err := wire.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	same(t, want, got)
}
