package k8s

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

// kubelet plays scheduler and nodes of a namespace: what the control plane does
// not have. How a pod fares depends on the tag of its image.
type kubelet struct {
	api       *apiserver.Client
	namespace string
	next      atomic.Int32 // address of the next pod

	mu      sync.Mutex
	crashed bool // the canary's containers end again and again from now on
}

func startKubelet(t *testing.T, a *apiserver.Client, namespace string) *kubelet {
	k := &kubelet{api: a, namespace: namespace}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var beat time.Time
		for wait(ctx, 50*time.Millisecond) == nil {
			if time.Since(beat) > 10*time.Second {
				k.heartbeat(ctx)
				beat = time.Now()
			}
			k.round(ctx)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return k
}

// crash makes the canary's containers end from now on.
func (k *kubelet) crash() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.crashed = true
}

// heartbeat keeps the nodes alive: pods on others are in no endpoint slice.
func (k *kubelet) heartbeat(ctx context.Context) {
	for _, name := range []string{"node-1", "node-2"} {
		node := core.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: name}}
		node.Status.Conditions = []core.NodeCondition{{Type: core.NodeReady, Status: core.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
		body, _ := json.Marshal(node)
		_ = k.api.Once(ctx, apiserver.Call{Verb: http.MethodPost, Path: "/api/v1/nodes", Kind: "application/json", Body: body})
		body, _ = json.Marshal(map[string]any{"status": node.Status})
		_ = k.api.Once(ctx, apiserver.Call{Verb: http.MethodPatch, Path: "/api/v1/nodes/" + name + "/status", Kind: "application/merge-patch+json", Body: body})
	}
}

func (k *kubelet) round(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var pods core.PodList
	if k.api.Once(ctx, apiserver.Call{Verb: http.MethodGet, Path: "/api/v1/namespaces/" + k.namespace + "/pods", Into: &pods}) != nil {
		return
	}
	for i := range pods.Items {
		k.play(ctx, &pods.Items[i])
	}
}

// play moves one pod a step on. Errors are those of races and of an API server
// that is away: the next round tries again.
func (k *kubelet) play(ctx context.Context, p *core.Pod) {
	path := "/api/v1/namespaces/" + k.namespace + "/pods/" + p.Name
	_, tag, _ := strings.Cut(p.Spec.Containers[0].Image, ":")
	switch {
	case p.DeletionTimestamp != nil:
		_ = k.api.Once(ctx, apiserver.Call{Verb: http.MethodDelete, Path: path, Query: map[string][]string{"gracePeriodSeconds": {"0"}}})
	case tag == "huge":
		k.status(ctx, path, p, core.PodStatus{Phase: core.PodPending, Conditions: []core.PodCondition{
			{Type: core.PodScheduled, Status: core.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes are available: 3 Insufficient memory."},
		}})
	case p.Spec.NodeName == "":
		bind := core.Binding{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Binding"}, ObjectMeta: metav1.ObjectMeta{Name: p.Name},
			Target: core.ObjectReference{Kind: "Node", Name: fmt.Sprintf("node-%d", k.next.Load()%2+1)},
		}
		body, _ := json.Marshal(bind)
		_ = k.api.Once(ctx, apiserver.Call{Verb: http.MethodPost, Path: path + "/binding", Kind: "application/json", Body: body})
		k.next.Add(1)
	default:
		k.run(ctx, path, p, tag)
	}
}

// run is what the node says of a pod.
func (k *kubelet) run(ctx context.Context, path string, p *core.Pod, tag string) {
	k.mu.Lock()
	crashed := k.crashed && p.Labels[trackLabel] == "canary"
	k.mu.Unlock()
	s := core.ContainerStatus{Name: "shop", Image: p.Spec.Containers[0].Image}
	status := core.PodStatus{Phase: core.PodRunning, PodIP: p.Status.PodIP}
	if status.PodIP == "" {
		n := k.next.Add(1)
		status.PodIP = fmt.Sprintf("10.1.%d.%d", n/250, n%250+1)
	}
	waiting := func(reason, message string) {
		s.State.Waiting = &core.ContainerStateWaiting{Reason: reason, Message: message}
	}
	ready := core.ConditionFalse
	switch {
	case tag == "absent":
		waiting("ImagePullBackOff", `Back-off pulling image "example.com/shop:absent": not found`)
	case tag == "never":
		waiting("ErrImageNeverPull", `Container image "example.com/shop:never" is not present with pull policy of Never`)
	case tag == "crash", crashed:
		waiting("CrashLoopBackOff", "back-off 40s restarting failed container")
		s.RestartCount = 4
		s.LastTerminationState.Terminated = &core.ContainerStateTerminated{ExitCode: 3, Reason: "Error", Message: "no database at db:5432\n"}
	case tag == "unwell":
		s.State.Running = &core.ContainerStateRunning{}
		k.warn(ctx, p, "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
	default:
		s.State.Running = &core.ContainerStateRunning{}
		s.Ready, ready = true, core.ConditionTrue
	}
	status.ContainerStatuses = []core.ContainerStatus{s}
	status.Conditions = []core.PodCondition{
		{Type: core.PodScheduled, Status: core.ConditionTrue},
		{Type: core.PodReady, Status: ready},
		{Type: core.ContainersReady, Status: ready},
	}
	k.status(ctx, path, p, status)
}

// status writes what has changed.
func (k *kubelet) status(ctx context.Context, path string, p *core.Pod, s core.PodStatus) {
	if len(p.Status.Conditions) >= len(s.Conditions) && len(s.ContainerStatuses) == len(p.Status.ContainerStatuses) && (len(s.ContainerStatuses) == 0 ||
		s.ContainerStatuses[0].Ready == p.Status.ContainerStatuses[0].Ready && s.ContainerStatuses[0].RestartCount == p.Status.ContainerStatuses[0].RestartCount) {
		return
	}
	body, _ := json.Marshal(map[string]any{"status": s})
	_ = k.api.Once(ctx, apiserver.Call{Verb: http.MethodPatch, Path: path + "/status", Kind: "application/merge-patch+json", Body: body})
}

func (k *kubelet) warn(ctx context.Context, p *core.Pod, reason, message string) {
	e := core.Event{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Event"}, ObjectMeta: metav1.ObjectMeta{Name: p.Name + ".warning", Namespace: k.namespace},
		InvolvedObject: core.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: k.namespace, Name: p.Name, UID: p.UID},
		Reason:         reason, Message: message, Type: core.EventTypeWarning, LastTimestamp: metav1.Now(),
	}
	body, _ := json.Marshal(e)
	_ = k.api.Once(ctx, apiserver.Call{Verb: http.MethodPost, Path: "/api/v1/namespaces/" + k.namespace + "/events", Kind: "application/json", Body: body})
}
