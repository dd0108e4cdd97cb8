package drift

import (
	"cmp"
	"context"
	"slices"
	"sync"

	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"

	"github.com/sluice-cd/sluice/deploy/k8s"
	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
	"github.com/sluice-cd/sluice/internal/wire"
)

func (r *Reader) readStable(ctx context.Context, c *collector) {
	if d := r.deployment(ctx, c, "-stable"); d != nil {
		c.put(func(v *View) { v.Stable = d })
	}
}

func (r *Reader) readCanary(ctx context.Context, c *collector) {
	if d := r.deployment(ctx, c, "-canary"); d != nil {
		c.put(func(v *View) { v.Canary = d })
	}
}

// deployment is nil if it cannot be told.
func (r *Reader) deployment(ctx context.Context, c *collector, track string) *Deployment {
	var d apps.Deployment
	name := r.service() + track
	there, err := r.get(ctx, deployments, r.namespace(), name, &d)
	if err != nil {
		c.missing(Live, "deployment "+name, err)
		return nil
	}
	if !there {
		return &Deployment{Absent: true}
	}
	found := &Deployment{
		Image: k8s.Image(&d, r.service()), Replicas: 1,
		Pods: int(d.Status.Replicas), Ready: int(min(d.Status.ReadyReplicas, d.Status.UpdatedReplicas)),
	}
	if d.Spec.Replicas != nil {
		found.Replicas = int(*d.Spec.Replicas)
	}
	if d.Status.ObservedGeneration < d.Generation {
		found.Ready = 0 // its status is of what it was before
	}
	return found
}

// httpRoute is the part of one that is compared.
type httpRoute struct {
	Spec struct {
		Rules []struct {
			BackendRefs []struct {
				Kind, Name string
				Weight     *int
			}
		}
	}
}

func (r *Reader) readRoute(ctx context.Context, c *collector) {
	if r.settings.Config.Deploy.Kubernetes.Traffic != "httproute" {
		return
	}
	var h httpRoute
	there, err := r.get(ctx, routes, r.namespace(), r.service(), &h)
	if err != nil {
		c.missing(Live, "httproute "+r.service(), err)
		return
	}
	found := &Route{Absent: !there}
	for _, rule := range h.Spec.Rules {
		weights := Rule{Stable: -1, Canary: -1}
		for _, b := range rule.BackendRefs {
			weight := 1 // what it is when left out
			if b.Weight != nil {
				weight = *b.Weight
			}
			switch {
			case b.Kind != "" && b.Kind != "Service":
			case b.Name == r.service()+"-stable":
				weights.Stable = weight
			case b.Name == r.service()+"-canary":
				weights.Canary = weight
			}
		}
		found.Rules = append(found.Rules, weights)
	}
	c.put(func(v *View) { v.Route = found })
}

func (r *Reader) readJobs(ctx context.Context, c *collector) {
	var list batch.JobList
	err := r.list(ctx, jobs, "app.kubernetes.io/part-of="+r.service()+",app.kubernetes.io/component=hook", &list)
	if err != nil {
		c.missing(Live, "jobs of hooks", err)
		return
	}
	var found []Job
	for _, j := range list.Items {
		ended := slices.ContainsFunc(j.Status.Conditions, func(t batch.JobCondition) bool {
			return (t.Type == batch.JobComplete || t.Type == batch.JobFailed) && t.Status == core.ConditionTrue
		})
		found = append(found, Job{Name: j.Name, Active: !ended})
	}
	c.put(func(v *View) { v.Jobs = found })
}

// readNodes finds out where pods of the service run.
func (r *Reader) readNodes(ctx context.Context, c *collector) {
	var list core.PodList
	if err := r.list(ctx, pods, "app.kubernetes.io/name="+r.service()+",sluice.dev/track", &list); err != nil {
		c.missing(Loaded, "nodes of the service", err)
		return
	}
	var nodes []string
	for _, p := range list.Items {
		if p.Spec.NodeName != "" && p.DeletionTimestamp == nil && p.Status.Phase == core.PodRunning {
			nodes = append(nodes, p.Spec.NodeName)
		}
	}
	slices.Sort(nodes)
	c.put(func(v *View) { v.Nodes = slices.Compact(nodes) })
}

// probesAtOnce bounds how many are asked at the same time.
const probesAtOnce = 64

func (r *Reader) readProbes(ctx context.Context, c *collector) {
	p := r.settings.Config.Deploy.Kubernetes.Probe
	list, err := k8s.Probes(ctx, r.rest, p.Namespace, p.Port)
	if err != nil {
		c.missing(Loaded, "probes", err)
		return
	}
	found := make([]Probe, len(list))
	free := make(chan struct{}, probesAtOnce)
	var all sync.WaitGroup
	for i, at := range list {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			found[i] = ask(ctx, at)
		})
	}
	all.Wait()
	slices.SortFunc(found, func(a, b Probe) int { return cmp.Compare(a.Node, b.Node) })
	c.put(func(v *View) { v.Probes = found })
}

// ask asks the daemon of one node.
func ask(ctx context.Context, at k8s.Probe) Probe {
	p := Probe{Node: at.Node, Ready: at.Ready}
	if at.Target == "" {
		p.Silent = "its pod has no address"
		return p
	}
	client, err := wire.Dial(at.Target, wire.Config{Timeout: patience / 4})
	if err != nil {
		p.Silent = err.Error()
		return p
	}
	defer client.Close()
	s, err := client.Snapshot(ctx)
	if err != nil {
		p.Silent = apiserver.OneLine(err.Error())
		return p
	}
	p.Object, p.Mismatch = string(s.Loaded.Digest), s.Mismatch
	return p
}
