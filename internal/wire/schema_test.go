package wire_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/histogram"
	"github.com/sluice-cd/sluice/internal/testenv"
	"github.com/sluice-cd/sluice/internal/wire"
)

// full is a Status in which no field is zero.
func full(t *testing.T) wire.Status {
	var s wire.Status
	s.Workloads = map[probe.Workload]probe.Counts{}
	n := uint64(0)
	fill(t, reflect.ValueOf(&s).Elem(), &n)
	for i := range 4 {
		var w probe.Workload
		var c probe.Counts
		fill(t, reflect.ValueOf(&w.Cgroup).Elem(), &n)
		if i > 0 {
			w.Addr = sampleAddrs[i-1]
		}
		fill(t, reflect.ValueOf(&c).Elem(), &n)
		s.Workloads[w] = c
	}
	return s
}

// fill sets everything to numbers that differ.
func fill(t *testing.T, v reflect.Value, n *uint64) {
	*n++
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = start.Add(time.Duration(*n))
		return
	case *histogram.Histogram:
		x.Add(int(*n)%histogram.Buckets, *n)
		x.Add(0, 1)
		x.Add(histogram.Buckets-1, 1<<40)
		return
	case *probe.Workload:
		*x = probe.Workload{Cgroup: *n, Addr: sampleAddrs[0]}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.Uint64, reflect.Uint32, reflect.Uint8:
		v.SetUint(*n & 0xff)
	case reflect.Int64, reflect.Int:
		v.SetInt(int64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n) / 7)
	case reflect.String:
		v.SetString("text " + string(rune('a'+*n%26)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Map: // by the caller
	default:
		t.Fatalf("no way to fill a %s", v.Type())
	}
}

// schema is the message Snapshot as protoc reads snapshot.proto.
func schema(t *testing.T) protoreflect.MessageDescriptor {
	t.Helper()
	testenv.Need(t, "protoc")
	out := filepath.Join(t.TempDir(), "snapshot.binpb")
	if text, err := exec.Command("protoc", "--descriptor_set_out="+out, "snapshot.proto").CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v\n%s", err, text)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(raw, &set); err != nil {
		t.Fatal(err)
	}
	file, err := protodesc.NewFile(set.File[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	return file.Messages().ByName("Snapshot")
}

func TestTheSchemaIsWhatIsWritten(t *testing.T) {
	s := full(t)
	m := dynamicpb.NewMessage(schema(t))
	if err := proto.Unmarshal(wire.Encode(nil, &s), m); err != nil {
		t.Fatal(err)
	}
	complete(t, "Snapshot", m)

	// What another implementation writes from the schema is read in the same way.
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := wire.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	same(t, s, got)
}

// complete demands that every field of the schema is there in every message,
// and nothing else: the wire types and numbers agree.
func complete(t *testing.T, path string, m protoreflect.Message) {
	t.Helper()
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		t.Errorf("%s: the schema does not know %x", path, unknown)
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		at := path + "." + string(f.Name())
		if at == "Snapshot.workloads[0].key.address" || at == "Snapshot.workloads[0].key.port" {
			continue // outgoing connections have none
		}
		if !m.Has(f) {
			t.Errorf("%s is not written", at)
			continue
		}
		switch {
		case f.IsList() && f.Message() != nil:
			list := m.Get(f).List()
			for i := range list.Len() {
				complete(t, at+"["+string(rune('0'+i))+"]", list.Get(i).Message())
			}
		case f.Message() != nil:
			complete(t, at, m.Get(f).Message())
		}
	}
}

func TestTheSchemaHasTheValuesUnderTheirNames(t *testing.T) {
	s := full(t)
	m := dynamicpb.NewMessage(schema(t))
	if err := proto.Unmarshal(wire.Encode(nil, &s), m); err != nil {
		t.Fatal(err)
	}
	get := func(m protoreflect.Message, name protoreflect.Name) protoreflect.Value {
		return m.Get(m.Descriptor().Fields().ByName(name))
	}
	first := get(m, "workloads").List().Get(0).Message()
	var c probe.Counts
	for w, counts := range s.Workloads {
		if w.Outgoing() {
			c = counts
		}
	}
	loss, exemplar := get(m, "loss").Message(), get(m, "exemplars").List().Get(0).Message()
	for name, tt := range map[string]struct{ got, want uint64 }{
		"begun":         {get(first, "begun").Uint(), c.Begun},
		"requests":      {get(first, "requests").Uint(), c.Requests},
		"aborted":       {get(first, "aborted").Uint(), c.Aborted},
		"truncated":     {get(first, "truncated").Uint(), c.Truncated},
		"connections":   {get(first, "connections").Uint(), c.Connections},
		"resets":        {get(first, "resets").Uint(), c.Resets},
		"segments":      {get(first, "segments").Uint(), c.Segments},
		"retransmits":   {get(first, "retransmits").Uint(), c.Retransmits},
		"bytes in":      {get(first, "bytes_in").Uint(), c.BytesIn},
		"bytes out":     {get(first, "bytes_out").Uint(), c.BytesOut},
		"latency sum":   {get(first, "latency_sum_nanos").Uint(), uint64(c.LatencySum)},
		"class 5xx":     {get(first, "classes").List().Get(5).Uint(), c.Classes[5]},
		"grpc 14":       {get(first, "grpc").List().Get(14).Uint(), c.GRPC[14]},
		"first":         {get(first, "first_unix_nano").Uint(), uint64(c.First.UnixNano())},
		"first error":   {get(first, "first_error_unix_nano").Uint(), uint64(c.FirstError.UnixNano())},
		"loss":          {get(loss, "requests").Uint(), s.Loss.Requests},
		"unmeasured":    {get(loss, "unmeasured").Uint(), s.Loss.Unmeasured},
		"desynced":      {get(loss, "desynced").Uint(), s.Loss.Desynced},
		"older":         {get(loss, "older").Uint(), s.Loss.Older},
		"cost":          {get(get(m, "cost").Message(), "time_nanos").Uint(), uint64(s.Cost.Time)},
		"took":          {get(exemplar, "took_nanos").Uint(), uint64(s.Exemplars[0].Took)},
		"exemplar's":    {get(exemplar, "status").Uint(), uint64(s.Exemplars[0].Status)},
		"exemplar grpc": {get(exemplar, "grpc").Uint(), uint64(s.Exemplars[0].GRPC)},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %d, want %d", name, tt.got, tt.want)
		}
	}
}
