package wire_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

var sampleAddrs = []netip.AddrPort{
	netip.MustParseAddrPort("10.1.2.3:8080"),
	netip.MustParseAddrPort("[2001:db8::1]:443"),
	netip.MustParseAddrPort("[::ffff:10.1.2.3]:65535"),
}

// same compares what two Statuses say.
func same(t *testing.T, want, got wire.Status) {
	t.Helper()
	if reflect.DeepEqual(want, got) {
		return
	}
	equal := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if diff := cmp.Diff(want, got, equal, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAStatusSurvivesBothForms(t *testing.T) {
	idle := sample(1, 1)
	idle.Workloads = map[probe.Workload]probe.Counts{{Cgroup: 1}: {}}
	idle.Exemplars = nil
	for name, s := range map[string]wire.Status{
		"busy": sample(3, 20), "every field": full(t), "idle": idle,
		"nothing at all":           {Loaded: bpf.Loaded{Programs: make([]bpf.LoadedProgram, 1), Maps: make([]bpf.LoadedMap, 1)}},
		"nothing but what must be": {Snapshot: probe.Snapshot{At: start}, Start: wire.Start{Boot: "b", Loaded: start}},
	} {
		t.Run(name, func(t *testing.T) {
			b := wire.Encode([]byte("before"), &s)
			got, err := wire.Decode(b[len("before"):])
			if err != nil {
				t.Fatal(err)
			}
			same(t, s, got)
			text, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			var again wire.Status
			if err := json.Unmarshal(text, &again); err != nil {
				t.Fatal(err)
			}
			same(t, s, again)
		})
	}
}

// field is one field of bytes.
func field(num protowire.Number, b ...byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), b)
}

// workload is a Status with one more workload, which has these fields.
func workload(fields ...[]byte) []byte {
	s := wire.Status{Snapshot: probe.Snapshot{At: start}, Start: wire.Start{Boot: "b", Loaded: start}}
	b := field(1, 8, 1) // the key: control group 1
	for _, f := range fields {
		b = append(b, f...)
	}
	return append(wire.Encode(nil, &s), field(12, b...)...)
}

func TestWhatIsNoSnapshotIsRefusedWithThePlace(t *testing.T) {
	good := wire.Status{Snapshot: probe.Snapshot{At: start}, Start: wire.Start{Boot: "b", Loaded: start}}
	ok := wire.Encode(nil, &good)
	with := func(more ...byte) []byte { return append(ok[:len(ok):len(ok)], more...) }
	for name, tt := range map[string]struct {
		in          []byte
		where, what string
	}{
		"nothing":                        {nil, "version", "missing"},
		"text":                           {[]byte("HTTP/1.1 200 OK"), "cost", "wire type 0, expected 2"},
		"the last byte cut off":          {ok[:len(ok)-1], "", "cut off"},
		"a later version":                {[]byte{8, 2}, "version", "is 2, this reader knows 1"},
		"a version of the wrong type":    {field(1, 1), "version", "wire type 2, expected 0"},
		"a time of the wrong type":       {[]byte{8, 1, 24, 1}, "at_unix_nano", "wire type 0, expected 1"},
		"a node of the wrong type":       {with(16, 1), "node", "wire type 0, expected 2"},
		"a node that is no UTF-8":        {with(field(2, 0xff)...), "node", "not UTF-8"},
		"a start without a boot id":      {append([]byte{8, 1}, field(4)...), "start.boot", "missing"},
		"a field twice":                  {with(8, 1), "version", "twice"},
		"a share that is no number":      {with(field(10, 9, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f)...), "budget.share", "NaN"},
		"a share below zero":             {with(field(10, 9, 0, 0, 0, 0, 0, 0, 0xf0, 0xbf)...), "budget.share", "-1"},
		"a program without a name":       {with(field(5, field(2)...)...), "loaded.programs[0].name", "missing"},
		"a program's id of 33 bits":      {with(field(5, field(2, 10, 1, 'a', 16, 0x80, 0x80, 0x80, 0x80, 0x10)...)...), "loaded.programs[0].id", "at most 4294967295"},
		"a workload without a key":       {with(field(12)...), "workloads[0].key", "missing"},
		"a workload twice":               {append(workload(), field(12, field(1, 8, 1)...)...), "workloads[1].key", "not above"},
		"workloads in disorder":          {append(workload(), field(12, field(1)...)...), "workloads[1].key", "not above"},
		"workloads that are a number":    {with(96, 1), "workloads", "wire type 0, expected 2"},
		"an address of five bytes":       {with(field(12, field(1, field(2, 1, 2, 3, 4, 5)...)...)...), "workloads[0].key.address", "has 5 bytes, expected 4 or 16"},
		"a port of 17 bits":              {with(field(12, field(1, 24, 0x80, 0x80, 4)...)...), "workloads[0].key.port", "at most 65535"},
		"a port without an address":      {with(field(12, field(1, 24, 80)...)...), "workloads[0].key.port", "without an address"},
		"a seventh class":                {workload(field(13, 1, 1, 1, 1, 1, 1, 1)), "workloads[0].classes", "more than 6"},
		"classes cut off":                {workload(field(13, 0x80)), "workloads[0].classes", "cut off"},
		"a negative sum":                 {workload([]byte{96, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}), "workloads[0].latency_sum_nanos", "at most 9223372036854775807"},
		"a bucket too many":              {workload(field(15, 0, 0xc2, 6, 1)), "workloads[0].latency", "more than 834 buckets"},
		"more empty ones than there are": {workload(field(15, 0, 0xc3, 6)), "workloads[0].latency", "not followed by a number of empty buckets"},
		"no empty buckets":               {workload(field(15, 0, 0)), "workloads[0].latency", "not followed by a number of empty buckets"},
		"a zero at the end":              {workload(field(16, 1, 0)), "workloads[0].complete", "not followed by a number of empty buckets"},
		"a count that ends early":        {workload(field(15, 0x80)), "workloads[0].latency", "cut off"},
		"a count of eleven bytes":        {workload(field(15, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1)), "workloads[0].latency", "longer than 64 bits"},
		"counts that do not fit":         {workload(field(15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1)), "workloads[0].latency", "exceed 64 bits"},
		"an exemplar without a time":     {with(field(11, field(1)...)...), "exemplars[0].at_unix_nano", "missing"},
		"a trace id of three bytes":      {with(field(11, append(field(1), field(7, 1, 2, 3)...)...)...), "exemplars[0].trace", "has 3 bytes, expected 16"},
	} {
		_, err := wire.Decode(tt.in)
		var format *wire.FormatError
		if !errors.As(err, &format) {
			t.Errorf("%s: error %v, want a FormatError", name, err)
			continue
		}
		if format.Where != tt.where || !strings.Contains(format.What, tt.what) {
			t.Errorf("%s: %q: %q, want %q: … %q", name, format.Where, format.What, tt.where, tt.what)
		}
		sums := map[uint64]*probe.Counts{}
		if _, err := wire.Merge(sums, nil, tt.in, byGroup); !errors.As(err, &format) || len(sums) > 0 {
			t.Errorf("%s: merging: %v and %d sums, want a FormatError and none", name, err, len(sums))
		}
	}
}

func TestFieldsOfALaterVersionAreSkipped(t *testing.T) {
	s := sample(1, 2)
	b := wire.Encode(nil, &s)
	for name, more := range map[string][]byte{
		"a number":         protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 7),
		"bytes":            field(100, 1, 2, 3),
		"64 bits":          protowire.AppendFixed64(protowire.AppendTag(nil, 64, protowire.Fixed64Type), 7),
		"32 bits":          protowire.AppendFixed32(protowire.AppendTag(nil, 14, protowire.Fixed32Type), 7),
		"a group":          {14<<3 | 3, 8, 1, 14<<3 | 4},
		"in a workload":    field(12, append(field(1, 0xf8, 0xff, 0xff, 0xff, 0x0f, 1, 8, 0xff, 0xff, 3), 0xa0, 6, 1)...),
		"a number, thrice": {0xe8, 7, 1, 0xe8, 7, 1, 0xe8, 7, 1},
	} {
		got, err := wire.Decode(append(b[:len(b):len(b)], more...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		delete(got.Workloads, probe.Workload{Cgroup: 65535})
		same(t, s, got)
	}
}

func TestTooManyWorkloadsAreRefused(t *testing.T) {
	b := wire.Encode(nil, &wire.Status{Snapshot: probe.Snapshot{At: start}, Start: wire.Start{Boot: "b", Loaded: start}})
	for i := range wire.MaxWorkloads + 1 {
		key := protowire.AppendVarint([]byte{8}, uint64(i))
		b = append(b, field(12, field(1, key...)...)...)
		if i == wire.MaxWorkloads-1 {
			if s, err := wire.Decode(b); err != nil || len(s.Workloads) != wire.MaxWorkloads {
				t.Fatalf("as many as may be: %d, %v", len(s.Workloads), err)
			}
		}
	}
	var format *wire.FormatError
	if _, err := wire.Decode(b); !errors.As(err, &format) || !strings.Contains(err.Error(), "more than 4096") {
		t.Errorf("%v, want a FormatError", err)
	}
}

func byGroup(_ string, w probe.Workload) (uint64, bool) { return w.Cgroup, true }
