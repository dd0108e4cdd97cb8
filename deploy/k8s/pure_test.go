package k8s

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	core "k8s.io/api/core/v1"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

var _ canary.Target = (*Target)(nil)

func has(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

func TestFullIsThatOfTheRollout(t *testing.T) {
	if full != canary.Full {
		t.Errorf("full is %d, canary.Full is %d", full, canary.Full)
	}
}

func TestReplicas(t *testing.T) {
	for name, tt := range map[string]struct {
		weight, stable int
		route          bool
		want           int
	}{
		"no traffic needs no pod":                 {0, 10, true, 0},
		"any traffic needs a pod":                 {1, 10, true, 1},
		"a route needs its share of pods":         {2500, 10, true, 3},
		"all traffic needs as many as are stable": {10000, 10, true, 10},
		"replicas: no traffic, no pod":            {0, 10, false, 0},
		"replicas: one is the least":              {100, 3, false, 1},
		"replicas: a quarter":                     {2500, 3, false, 1},
		"replicas: half":                          {5000, 3, false, 3},
		"replicas: 3 of 13 are closer to a fifth": {2000, 10, false, 3},
		"replicas: three quarters":                {7500, 3, false, 9},
		"replicas: all is as many as are stable":  {10000, 3, false, 3},
		"replicas: nothing stable":                {5000, 0, false, 1},
	} {
		if got := Replicas(tt.weight, tt.stable, tt.route); got != tt.want {
			t.Errorf("%s: got %d, want %d", name, got, tt.want)
		}
	}
}

// TestReplicasIsClosest tries every number of pods.
func TestReplicasIsClosest(t *testing.T) {
	for stable := 1; stable <= 20; stable++ {
		for weight := 1; weight < 9500; weight += 7 {
			off := func(c int) float64 {
				d := float64(c)/float64(c+stable) - float64(weight)/full
				return max(d, -d)
			}
			got := Replicas(weight, stable, false)
			for c := 1; c <= 20*stable; c++ {
				if off(c) < off(got)-1e-12 {
					t.Fatalf("weight %d beside %d: %d pods, but %d are closer", weight, stable, got, c)
				}
			}
		}
	}
}

func TestThePatchIsOneWriteOfAllRules(t *testing.T) {
	var r route
	raw := `{"metadata":{"annotations":{"a":"b"}},"spec":{"rules":[
	  {"matches":[{"headers":[{"name":"x-env","value":"canary"}]}],"backendRefs":[{"name":"shop-stable","weight":100},{"name":"shop-canary","weight":0}]},
	  {"backendRefs":[{"name":"docs"}]},
	  {"backendRefs":[{"name":"shop-canary","weight":0},{"name":"shop-stable","weight":100}]}]}}`
	if err := json.Unmarshal([]byte(raw), &r); err != nil {
		t.Fatal(err)
	}
	pairs, err := r.pairs(Service{Name: "shop", Header: true})
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(r.patch(pairs, traffic{weight: 250, header: true, by: "me"}))
	if err != nil {
		t.Fatal(err)
	}
	want := `[` +
		`{"op":"test","path":"/spec/rules/0/backendRefs","value":[{"name":"shop-stable","weight":100},{"name":"shop-canary","weight":0}]},` +
		`{"op":"add","path":"/spec/rules/0/backendRefs/0/weight","value":0},` +
		`{"op":"add","path":"/spec/rules/0/backendRefs/1/weight","value":100},` +
		`{"op":"test","path":"/spec/rules/2/backendRefs","value":[{"name":"shop-canary","weight":0},{"name":"shop-stable","weight":100}]},` +
		`{"op":"add","path":"/spec/rules/2/backendRefs/1/weight","value":9750},` +
		`{"op":"add","path":"/spec/rules/2/backendRefs/0/weight","value":250},` +
		`{"op":"add","path":"/metadata/annotations/sluice.dev~1traffic","value":"{\"by\":\"me\",\"header\":true,\"weight\":250}"}]`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

// FuzzRoute holds that no route of others makes us write an index that does not
// exist, and that what we write is read as it was meant.
func FuzzRoute(f *testing.F) {
	f.Add(`{"spec":{"rules":[{"backendRefs":[{"name":"shop-stable","weight":100},{"name":"shop-canary","weight":0}]}]}}`, 250, true)
	f.Add(`{"spec":{"rules":[{"matches":[{"headers":[{}]}],"backendRefs":[{"name":"shop-canary"}]},{"backendRefs":null}]}}`, 0, false)
	f.Fuzz(func(t *testing.T, raw string, weight int, header bool) {
		var r route
		if json.Unmarshal([]byte(raw), &r) != nil {
			return
		}
		s := Service{Name: "shop", Header: header}
		if found, err := r.backends(s); err == nil {
			_ = r.patch(found, traffic{})
		}
		pairs, err := r.pairs(s)
		if err != nil {
			return
		}
		to := traffic{weight: max(0, min(weight, full)), header: header}
		for _, op := range r.patch(pairs, to) {
			var rule, ref int
			if n, _ := fmt.Sscanf(op.Path, "/spec/rules/%d/backendRefs/%d/weight", &rule, &ref); n < 2 {
				continue
			}
			for i := range pairs {
				if pairs[i].rule == rule {
					w := op.Value.(int)
					pairs[i].refs[ref].Weight = &w
				}
			}
		}
		now, ours := r.traffic(pairs)
		if now.weight != to.weight || now.header != to.header || !ours {
			t.Errorf("wrote %+v, read %+v (ours: %v)", to, now, ours)
		}
	})
}

func TestTrafficSaysPerCent(t *testing.T) {
	for want, tr := range map[string]traffic{
		"weight 0 %": {}, "weight 0.01 %": {weight: 1}, "weight 20 %": {weight: 2000}, "weight 12.5 % and the header rule": {weight: 1250, header: true},
	} {
		if got := tr.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAnEventIsOnTheCanary(t *testing.T) {
	w := newWorld(t, Service{})
	target := w.open()
	if err := target.Event(t.Context(), "RolledBack", strings.Repeat("slower ", 200), true); err != nil {
		t.Fatal(err)
	}
	if err := target.Event(t.Context(), "Promoted", "1.2.0", false); err != nil {
		t.Fatal(err)
	}
	var events core.EventList
	if err := w.admin.List(t.Context(), target.corePath("events"), partLabel+"=shop", &events); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range events.Items {
		got[e.Reason] = e.Type
		if e.InvolvedObject.UID != w.deployment("shop-canary").UID || e.Source.Component != apiserver.Manager {
			t.Errorf("event %+v", e)
		}
	}
	if diff := cmp.Diff(map[string]string{"RolledBack": "Warning", "Promoted": "Normal"}, got); diff != "" {
		t.Error(diff)
	}
}
