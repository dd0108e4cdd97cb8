package k8s

import (
	"errors"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
)

func TestACanaryThatDoesNotStartSaysWhy(t *testing.T) {
	w := newWorld(t, Service{Route: true})
	for tag, tt := range map[string]struct {
		want  string
		early bool
	}{
		"absent": {`ImagePullBackOff: Back-off pulling image "example.com/shop:absent": not found`, false},
		"never":  {`ErrImageNeverPull: Container image "example.com/shop:never" is not present with pull policy of Never`, true},
		"crash":  {"CrashLoopBackOff: back-off 40s restarting failed container; it ended with exit code 3: no database at db:5432", true},
		"huge":   {"Unschedulable: 0/3 nodes are available: 3 Insufficient memory.", false},
		"unwell": {"Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 503", false},
	} {
		t.Run(tag, func(t *testing.T) {
			w.t, w.svc.Ready = t, 2*time.Second
			if tt.early {
				w.svc.Ready = patient
			}
			w.image(tag)
			target := w.open()
			e := w.notReady(target, func(e *NotReadyError) bool { e.Why = noName(e.Why); return e.Why == "pod: "+tt.want })
			if e.Why != "pod: "+tt.want || e.Early != tt.early || e.Want != 1 || e.Have != 0 || e.Image != "example.com/shop:"+tag {
				t.Errorf("got  %+v\nwant pod: %s", e, tt.want)
			}
			if w.weights() != "100:0" {
				t.Errorf("it has traffic: %s", w.weights())
			}
			if err := target.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.atRest()
		})
	}
	t.Run("no pod may be made", func(t *testing.T) {
		w.t, w.svc.Ready = t, 2*time.Second
		w.quota(2)
		e := w.notReady(w.open(), func(e *NotReadyError) bool {
			return has(e.Why, "no pod could be made: pods ", "exceeded quota: full, requested: pods=1, used: pods=2, limited: pods=2")
		})
		if !strings.HasPrefix(e.Why, "no pod could be made: ") {
			t.Errorf("got %v", e)
		}
	})
}

// notReady starts a canary that does not get ready, again with more time while
// the reason is not the one that is expected: on a busy machine it is known later.
func (w *world) notReady(target *Target, expected func(*NotReadyError) bool) *NotReadyError {
	w.t.Helper()
	for {
		var e *NotReadyError
		if err := target.Start(w.t.Context(), 100); !errors.As(err, &e) {
			w.t.Fatalf("got %v", err)
		}
		if expected(e) || target.svc.Ready >= patient {
			return e
		}
		target.svc.Ready *= 4
	}
}

// noName takes the name out of "pod NAME: words".
func noName(why string) string {
	for i := len("pod"); i < len(why); i++ {
		if why[i] == ':' {
			return "pod" + why[i:]
		}
	}
	return why
}

func TestNoPodsSayWhy(t *testing.T) {
	zero, one := int32(0), int32(1)
	for want, d := range map[string]*apps.Deployment{
		"there are no pods":               nil,
		"the Deployment is paused":        {Spec: apps.DeploymentSpec{Paused: true, Replicas: &one}},
		"the Deployment has 0 replicas":   {Spec: apps.DeploymentSpec{Replicas: &zero}},
		"no pod was made":                 {},
		"no pod could be made: no x left": {Status: apps.DeploymentStatus{Conditions: []apps.DeploymentCondition{{Type: apps.DeploymentReplicaFailure, Status: core.ConditionTrue, Message: "no x\nleft"}}}},
	} {
		if got := noPods(d); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	d := &apps.Deployment{}
	d.Generation = 2
	if got := noPods(d); got != "the controller manager has not looked at the Deployment yet" {
		t.Errorf("unobserved: %q", got)
	}
}

func TestComplaint(t *testing.T) {
	status := func(s core.ContainerStatus) core.PodStatus {
		return core.PodStatus{ContainerStatuses: []core.ContainerStatus{s}}
	}
	waiting := func(name, reason, message string) core.ContainerStatus {
		return core.ContainerStatus{Name: name, State: core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: reason, Message: message}}}
	}
	for name, tt := range map[string]struct {
		status core.PodStatus
		want   string
	}{
		"a pod that starts has none": {status(waiting("shop", "ContainerCreating", "")), ""},
		"a pod that was evicted":     {core.PodStatus{Phase: core.PodFailed, Reason: "Evicted", Message: "The node was low on resource: memory."}, "Evicted: The node was low on resource: memory."},
		"a pod that failed":          {core.PodStatus{Phase: core.PodFailed}, "Failed: the pod has ended"},
		"a secret that is missing":   {status(waiting("shop", "CreateContainerConfigError", `secret "db" not found`)), `CreateContainerConfigError: secret "db" not found`},
		"a sidecar is named":         {status(waiting("proxy", "ErrImagePull", "")), "container proxy: ErrImagePull: no reason given"},
		"an init container comes first": {core.PodStatus{
			InitContainerStatuses: []core.ContainerStatus{{Name: "migrate", State: core.ContainerState{Terminated: &core.ContainerStateTerminated{ExitCode: 1, Reason: "Error"}}}},
			ContainerStatuses:     []core.ContainerStatus{waiting("shop", "PodInitializing", "")},
		}, "container migrate: it ended with exit code 1"},
		"out of memory": {
			status(core.ContainerStatus{Name: "shop", State: core.ContainerState{Terminated: &core.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}}}),
			"it ended with exit code 137 (OOMKilled)",
		},
	} {
		if got := complaint(core.Pod{Status: tt.status}, "shop"); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
