package k8s

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

// pods lists the pods of one track.
func (t *Target) pods(ctx context.Context, track string) ([]core.Pod, error) {
	var pods core.PodList
	selector := nameLabel + "=" + t.svc.Name + "," + trackLabel + "=" + track
	if err := t.api.List(ctx, t.corePath("pods"), selector, &pods); err != nil {
		return nil, fmt.Errorf("listing the pods of %s-%s: %w", t.svc.Name, track, err)
	}
	return pods.Items, nil
}

func (t *Target) corePath(resource string) string {
	return fmt.Sprintf("/api/v1/namespaces/%s/%s", t.svc.Namespace, resource)
}

// why says in the words of pods, events and the Deployment why pods are not
// ready; it never fails: what cannot be read is not quoted.
func (t *Target) why(ctx context.Context, d *apps.Deployment, track string) string {
	pods, err := t.pods(ctx, track)
	if err != nil {
		return err.Error()
	}
	if len(pods) == 0 {
		return noPods(d)
	}
	slices.SortFunc(pods, func(a, b core.Pod) int { return cmp.Compare(a.Name, b.Name) })
	for _, p := range pods {
		if reason := complaint(p, t.svc.Name); reason != "" {
			return fmt.Sprintf("pod %s: %s", p.Name, reason)
		}
	}
	for _, p := range pods {
		if podReady(p) {
			continue
		}
		if words := t.lastWarning(ctx, p.Name); words != "" {
			return fmt.Sprintf("pod %s: %s", p.Name, words)
		}
		return fmt.Sprintf("pod %s is %s and not ready", p.Name, strings.ToLower(string(cmp.Or(p.Status.Phase, core.PodPending))))
	}
	return "all pods are ready, but the Deployment or the endpoint slices do not say so yet"
}

// noPods is why a Deployment has none.
func noPods(d *apps.Deployment) string {
	if d == nil {
		return "there are no pods"
	}
	for _, c := range d.Status.Conditions {
		if c.Type == apps.DeploymentReplicaFailure && c.Status == core.ConditionTrue {
			return fmt.Sprintf("no pod could be made: %s", oneLine(c.Message))
		}
	}
	switch {
	case d.Spec.Paused:
		return "the Deployment is paused"
	case replicas(d) == 0:
		return "the Deployment has 0 replicas"
	case d.Status.ObservedGeneration < d.Generation:
		return "the controller manager has not looked at the Deployment yet"
	}
	return "no pod was made"
}

// complaint is what a pod says about itself, in the order in which things go
// wrong; empty if it has nothing to say.
func complaint(p core.Pod, container string) string {
	if p.Status.Phase == core.PodFailed {
		return oneLine(fmt.Sprintf("%s: %s", cmp.Or(p.Status.Reason, "Failed"), cmp.Or(p.Status.Message, "the pod has ended")))
	}
	for _, c := range p.Status.Conditions {
		if c.Type == core.PodScheduled && c.Status == core.ConditionFalse {
			return oneLine(fmt.Sprintf("%s: %s", c.Reason, c.Message))
		}
	}
	statuses := append(slices.Clone(p.Status.InitContainerStatuses), p.Status.ContainerStatuses...)
	for _, s := range statuses {
		who := ""
		if s.Name != container {
			who = "container " + s.Name + ": "
		}
		if w := s.State.Waiting; w != nil && w.Reason != "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
			words := fmt.Sprintf("%s%s: %s", who, w.Reason, cmp.Or(w.Message, "no reason given"))
			if end := s.LastTerminationState.Terminated; end != nil {
				words += "; it " + ended(end)
			}
			return oneLine(words)
		}
		if end := s.State.Terminated; end != nil && end.ExitCode != 0 {
			return oneLine(who + "it " + ended(end))
		}
	}
	return ""
}

// ended says how a container ended, with its termination log.
func ended(s *core.ContainerStateTerminated) string {
	words := fmt.Sprintf("ended with exit code %d", s.ExitCode)
	if s.Reason != "" && s.Reason != "Error" {
		words += " (" + s.Reason + ")"
	}
	if s.Message != "" {
		words += ": " + s.Message
	}
	return words
}

// lastWarning is the newest warning about a pod, such as a probe that failed.
func (t *Target) lastWarning(ctx context.Context, pod string) string {
	var events core.EventList
	err := t.api.Do(ctx, apiserver.Call{
		Verb: "GET", Path: t.corePath("events"), Into: &events,
		Query: url.Values{"fieldSelector": {"type=Warning,involvedObject.kind=Pod,involvedObject.name=" + pod}},
	})
	if err != nil || len(events.Items) == 0 {
		return ""
	}
	last := slices.MaxFunc(events.Items, func(a, b core.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	return oneLine(fmt.Sprintf("%s: %s", last.Reason, last.Message))
}

func podReady(p core.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == core.PodReady {
			return c.Status == core.ConditionTrue
		}
	}
	return false
}

// oneLine makes words of others fit for a message.
func oneLine(s string) string {
	return apiserver.Cut(apiserver.OneLine(s), 400)
}

// hopeless reports whether waiting for the pod is no use: its image cannot be
// had under that name, or its container ends again and again.
func hopeless(p core.Pod, container string) bool {
	for _, s := range p.Status.ContainerStatuses {
		w := s.State.Waiting
		if s.Name != container || w == nil {
			continue
		}
		switch w.Reason {
		case "InvalidImageName", "ErrImageNeverPull":
			return true
		case "CrashLoopBackOff":
			return s.RestartCount >= 3
		}
	}
	return false
}
