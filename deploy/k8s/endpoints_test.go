package k8s

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func ptr[T any](v T) *T { return &v }

func TestAddressesAreThoseThatServeOrEnd(t *testing.T) {
	slice := discovery.EndpointSlice{
		AddressType: discovery.AddressTypeIPv4,
		Ports:       []discovery.EndpointPort{{Name: ptr("metrics"), Port: ptr(int32(9090))}, {Name: ptr("http"), Port: ptr(int32(8080))}},
		Endpoints: []discovery.Endpoint{
			{Addresses: []string{"10.0.0.3"}, Conditions: discovery.EndpointConditions{Ready: ptr(true)}},
			{Addresses: []string{"10.0.0.2"}, Conditions: discovery.EndpointConditions{Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true)}},
			{Addresses: []string{"10.0.0.1"}, Conditions: discovery.EndpointConditions{Ready: ptr(false)}},
			{Addresses: []string{"10.0.0.4"}},
			{Addresses: []string{"not an address"}},
			{},
		},
	}
	want := []string{"10.0.0.2:8080", "10.0.0.3:8080", "10.0.0.4:8080"}
	if diff := cmp.Diff(want, texts(serving(read(slice)))); diff != "" {
		t.Error(diff)
	}
	if got := ready(read(slice)); got != 2 {
		t.Errorf("%d are ready, want 2", got)
	}
	slice.AddressType = discovery.AddressTypeFQDN
	if got := read(slice); got != nil {
		t.Errorf("names are no addresses: %v", got)
	}
}

func texts(addrs []netip.AddrPort) []string {
	var list []string
	for _, a := range addrs {
		list = append(list, a.String())
	}
	return list
}

func TestTargetPort(t *testing.T) {
	port := func(name string, n int32) discovery.EndpointPort {
		return discovery.EndpointPort{Name: &name, Port: &n}
	}
	for name, tt := range map[string]struct {
		ports []discovery.EndpointPort
		want  uint16
		ok    bool
	}{
		"the one named http":          {[]discovery.EndpointPort{port("metrics", 1), port("http", 2)}, 2, true},
		"the only one":                {[]discovery.EndpointPort{port("", 3)}, 3, true},
		"none of several":             {[]discovery.EndpointPort{port("a", 1), port("b", 2)}, 0, false},
		"none":                        {nil, 0, false},
		"one without a number":        {[]discovery.EndpointPort{{Name: ptr("http")}}, 0, false},
		"one with a number too large": {[]discovery.EndpointPort{port("http", 70000)}, 0, false},
	} {
		if got, ok := targetPort(tt.ports); got != tt.want || ok != tt.ok {
			t.Errorf("%s: got %d, %v", name, got, ok)
		}
	}
}

func TestAddressesAndNodesOfALiveService(t *testing.T) {
	w := newWorld(t, Service{})
	w.image("2")
	target := w.open()
	if err := errors.Join(target.Start(t.Context(), 5000), target.Shift(5000)); err != nil {
		t.Fatal(err)
	}
	stable, canary, err := target.Addresses(t.Context())
	if err != nil || len(stable) != 2 || len(canary) != 2 {
		t.Fatalf("%v and %v: %v", stable, canary, err)
	}
	for _, a := range append(stable, canary...) {
		if a.Port() != 8080 || !netip.MustParsePrefix("10.1.0.0/16").Contains(a.Addr()) {
			t.Errorf("address %v is not a pod's", a)
		}
	}
	nodes, err := target.Nodes(t.Context())
	if diff := cmp.Diff([]string{"node-1", "node-2"}, nodes); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

func TestOneProbeANode(t *testing.T) {
	now := time.Now()
	pod := func(node, ip string, age time.Duration, ready, ends bool) core.Pod {
		p := core.Pod{Spec: core.PodSpec{NodeName: node}}
		p.CreationTimestamp = metav1.NewTime(now.Add(-age))
		p.Status.PodIP = ip
		if ready {
			p.Status.Conditions = []core.PodCondition{{Type: core.PodReady, Status: core.ConditionTrue}}
		}
		if ends {
			p.DeletionTimestamp = &metav1.Time{Time: now}
		}
		return p
	}
	failed := pod("d", "10.0.0.9", time.Second, false, false)
	failed.Status.Phase = core.PodFailed
	got := choose([]core.Pod{
		pod("b", "10.0.0.2", time.Hour, true, false),
		pod("a", "10.0.0.1", time.Hour, true, true), pod("a", "fd00::1", time.Minute, true, false),
		pod("c", "", time.Second, false, false),
		pod("e", "10.0.0.5", time.Hour, true, false), pod("e", "10.0.0.6", time.Minute, false, false),
		pod("", "", time.Second, false, false), failed,
		pod("f", "10.0.0.7", time.Hour, true, true),
	}, 9640)
	want := []Probe{
		{"a", "http://[fd00::1]:9640", true},
		{"b", "http://10.0.0.2:9640", true},
		{"c", "", false},
		{"e", "http://10.0.0.6:9640", false},
		{"f", "http://10.0.0.7:9640", false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
