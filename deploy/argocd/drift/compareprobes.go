package drift

import (
	"slices"
	"strings"
)

// probes compares what is loaded on every node with the object of the release.
func (c *comparison) probes() {
	want := c.object()
	for _, node := range c.Nodes {
		if !slices.ContainsFunc(c.Probes, func(p Probe) bool { return p.Node == node }) && !c.missing(Loaded) {
			c.drift(Loaded, "node "+node, "a sluice-probe", "none", ByKubernetes, "the DaemonSet sluice-probe: does it tolerate the node's taints?")
		}
	}
	for _, p := range c.Probes {
		where := "node " + p.Node
		if !p.Ready {
			c.drift(Loaded, where+" probe", "ready", "not ready", ByKubernetes, "kubectl describe pods -A -l app.kubernetes.io/name=sluice-probe")
		}
		switch {
		case p.Silent != "":
			c.unknown(Loaded, where+" object", short(want), "no answer: "+p.Silent, "can its port be reached from here? network policies may allow the hooks only")
		case strings.Contains(p.Mismatch, ", repaired after "):
			c.drift(Loaded, where+" kernel", "what was verified", p.Mismatch, BySluice, "the daemon has put it right, and says so for a while; find out who replaced the program")
		case p.Mismatch != "":
			c.drift(Loaded, where+" kernel", "what was verified", p.Mismatch, ByKubernetes, "by a new pod: kubectl delete the pod of this node, and find out who replaced the program")
		}
		switch {
		case p.Silent != "":
		case p.Object == "":
			c.unknown(Loaded, where+" object", short(want), "the probe does not say", "a probe of another version?")
		case want != "" && p.Object != want:
			c.drift(Loaded, where+" object", short(want), short(p.Object), ByPerson, "give the DaemonSet sluice-probe the object of the release")
		}
	}
}

// object is the digest that has to be loaded: that of the release which is on its
// way, else of the one that serves. Where the release names none, all nodes have
// to agree with the first.
func (c *comparison) object() string {
	if l := c.Ledger; l != nil {
		if l.Open != nil && l.Open.Object != "" && !c.rest {
			return l.Open.Object
		}
		if l.Serves != nil && l.Serves.Object != "" {
			return l.Serves.Object
		}
	}
	for _, p := range c.Probes {
		if p.Object != "" {
			return p.Object
		}
	}
	return ""
}
