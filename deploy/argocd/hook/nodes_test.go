package hook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

// nodes plays Deployment controller, kubelet and kube-proxy of a namespace, and
// the daemon of its only node: pods are ready as soon as a Deployment asks for
// them, and clients send the same number of requests to each of them. What the
// daemon says is scripted, because loss and tampering cannot be had at will.
type nodes struct {
	t         *testing.T
	api       *api
	namespace string
	port      int

	mu      sync.Mutex
	counts  map[netip.AddrPort]*probe.Counts
	alive   map[string]int // pods by track
	start   wire.Start
	unready bool                                          // the canary does not get ready
	behave  func(track string, c *probe.Counts, n uint64) // what n requests to a pod come to
	rate    uint64                                        // requests per pod and tick
	tamper  func(*wire.Status)                            // what the daemon says of itself
	touch   map[string]time.Time                          // when a track last had a pod
}

const tick = 50 * time.Millisecond

func startNodes(t *testing.T, a *api, namespace string) *nodes {
	n := &nodes{
		t: t, api: a, namespace: namespace, counts: map[netip.AddrPort]*probe.Counts{}, alive: map[string]int{}, rate: 100,
		start: wire.Start{Boot: "b", Loaded: time.Now()}, behave: healthy, tamper: func(*wire.Status) {}, touch: map[string]time.Time{},
	}
	n.port = listen(t, http.HandlerFunc(n.snapshot))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sleep(ctx, tick) == nil {
			n.round(ctx, "stable")
			n.round(ctx, "canary")
			n.traffic()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return n
}

// healthy answers everything with 200 after a millisecond.
func healthy(_ string, c *probe.Counts, n uint64) { answered(c, n, 2, time.Millisecond) }

// failing is a canary that answers every second request with 500.
func failing(track string, c *probe.Counts, n uint64) {
	if track == "canary" {
		answered(c, n/2, 5, time.Millisecond)
		n -= n / 2
	}
	answered(c, n, 2, time.Millisecond)
}

func answered(c *probe.Counts, n uint64, class int, took time.Duration) {
	c.Requests += n
	c.Begun += n
	c.Classes[class] += n
	for range n {
		c.Latency.Observe(took)
	}
	if c.First.IsZero() {
		c.First = time.Now()
	}
	if class == 5 && c.FirstError.IsZero() {
		c.FirstError = time.Now()
	}
}

// set changes what the nodes do.
func (n *nodes) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

// pods counts the pods of a track that serve.
func (n *nodes) pods(track string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.alive[track]
}

func address(track string, i int) netip.AddrPort {
	third := map[string]byte{"stable": 1, "canary": 2}[track]
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, third, byte(i + 1)}), 8080)
}

// round makes what a Deployment asks for. Errors are those of an API server that
// is away.
func (n *nodes) round(ctx context.Context, track string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var d apps.Deployment
	u, err := n.api.Resource(deployments).Namespace(n.namespace).Get(ctx, "shop-"+track, metav1.GetOptions{})
	if err != nil {
		return
	}
	raw, _ := json.Marshal(u.Object)
	if json.Unmarshal(raw, &d) != nil {
		return
	}
	want, ready := *d.Spec.Replicas, *d.Spec.Replicas
	n.mu.Lock()
	if track == "canary" && n.unready {
		ready = 0
	}
	n.mu.Unlock()
	status := apps.DeploymentStatus{
		ObservedGeneration: d.Generation, Replicas: want, UpdatedReplicas: want, ReadyReplicas: ready, AvailableReplicas: ready, UnavailableReplicas: want - ready,
	}
	if d.Status.ObservedGeneration != d.Generation || d.Status.ReadyReplicas != ready || d.Status.Replicas != want {
		_ = n.api.mergeStatus(ctx, object{deployments, n.namespace, d.Name}, map[string]any{"status": status})
	}
	n.mu.Lock()
	same := n.alive[track] == int(ready)
	n.mu.Unlock()
	if same && ready > 0 {
		return
	}
	for _, service := range []string{"shop", "shop-" + track} {
		if n.slice(ctx, service, track, int(ready)) != nil {
			return
		}
	}
	n.mu.Lock()
	n.alive[track] = int(ready)
	if ready > 0 {
		n.touch[track] = time.Now()
	}
	n.mu.Unlock()
}

// slice writes the endpoints of a track behind a Service.
func (n *nodes) slice(ctx context.Context, service, track string, ready int) error {
	port, name, node, yes := int32(8080), "http", "node-1", true
	s := discovery.EndpointSlice{
		TypeMeta:    metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta:  metav1.ObjectMeta{Namespace: n.namespace, Name: service + "." + track, Labels: map[string]string{discovery.LabelServiceName: service}},
		AddressType: discovery.AddressTypeIPv4, Ports: []discovery.EndpointPort{{Name: &name, Port: &port}}, Endpoints: []discovery.Endpoint{},
	}
	for i := range ready {
		s.Endpoints = append(s.Endpoints, discovery.Endpoint{
			Addresses: []string{address(track, i).Addr().String()}, NodeName: &node, Conditions: discovery.EndpointConditions{Ready: &yes},
		})
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	slicesOf := discovery.SchemeGroupVersion.WithResource("endpointslices")
	force := true
	_, err = n.api.Resource(slicesOf).Namespace(n.namespace).Patch(ctx, s.Name, types.ApplyPatchType, raw, metav1.PatchOptions{FieldManager: "nodes", Force: &force})
	return err
}

// traffic lets every pod answer.
func (n *nodes) traffic() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for track, alive := range n.alive {
		for i := range alive {
			a := address(track, i)
			if n.counts[a] == nil {
				n.counts[a] = &probe.Counts{}
			}
			n.behave(track, n.counts[a], n.rate)
		}
	}
}

// snapshot is what the daemon answers.
func (n *nodes) snapshot(w http.ResponseWriter, _ *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := wire.Status{Node: "node-1", Start: n.start, Loaded: bpf.Loaded{Digest: object1}}
	s.At, s.Workloads = time.Now(), map[probe.Workload]probe.Counts{}
	for a, c := range n.counts {
		s.Workloads[probe.Workload{Cgroup: 7, Addr: a}] = *c
	}
	n.tamper(&s)
	w.Header().Set("Content-Type", wire.MediaType)
	_, _ = w.Write(wire.Encode(nil, &s))
}

// object1 is the object that the release names.
const object1 = "sha256:abababababababababababababababababababababababababababababababab"

// mergeStatus patches the status of an object.
func (a *api) mergeStatus(ctx context.Context, o object, patch any) error {
	raw, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encoding a status: %w", err)
	}
	_, err = a.Resource(o.kind).Namespace(o.namespace).Patch(ctx, o.name, types.MergePatchType, raw, metav1.PatchOptions{}, "status")
	return err
}
