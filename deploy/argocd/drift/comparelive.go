package drift

import (
	"fmt"
)

// stable compares the version that serves with the ledger and the configuration.
func (c *comparison) stable() {
	name := "deployment " + c.Service + "-stable"
	c.releases(name)
	d := c.Stable
	switch {
	case d == nil || !c.rest:
	case d.Absent:
		c.drift(Live, name, "there", "absent", ByArgoCD, "by a sync: sluice-argo sync")
	default:
		if d.Replicas != c.Want.Replicas {
			c.drift(Live, name+" replicas", fmt.Sprint(c.Want.Replicas), fmt.Sprint(d.Replicas), ByArgoCD, "by self-heal or sluice-argo sync, if git says what sluice.yaml says")
		}
		if d.Ready < d.Replicas {
			c.drift(Live, name+" ready", fmt.Sprint(d.Replicas), fmt.Sprint(d.Ready), ByKubernetes, "when its pods are ready: kubectl describe pods")
		}
	}
}

// releases compares the stable image with what the ledger says. While a sync is
// under way it may be that of the release that is coming.
func (c *comparison) releases(name string) {
	l, d := c.Ledger, c.Stable
	switch {
	case l == nil || d == nil || d.Absent:
	case l.Serves == nil && c.rest:
		c.unknown(Live, "ledger", "a release that serves", "none was ever promoted", "the first release that passes the gate is entered")
	case l.Serves == nil || same(d.Image, l.Serves.Image):
	case !c.rest && l.Open != nil && same(d.Image, l.Open.Image):
	default:
		by, how := ByPerson, "git asks for it too: sluice-argo sync, whose hooks close the books"
		if a := c.ArgoCD; a != nil && a.Sync == "OutOfSync" {
			by, how = ByArgoCD, "by self-heal or sluice-argo sync: git asks for something else"
		}
		c.drift(Live, name+" image", l.Serves.Image, d.Image, by, how)
	}
}

// canary looks whether the canary is at rest.
func (c *comparison) canary() {
	d, name := c.Canary, "deployment "+c.Service+"-canary"
	const how = "the hooks of the next sync put it to rest: sluice-argo sync"
	switch {
	case d == nil || !c.rest:
	case d.Absent:
		c.drift(Live, name, "there", "absent", ByArgoCD, "by a sync: sluice-argo sync")
	default:
		if d.Replicas != 0 {
			c.drift(Live, name+" replicas", "0", fmt.Sprint(d.Replicas), BySluice, how)
		} else if d.Pods != 0 {
			c.drift(Live, name+" pods", "0", fmt.Sprint(d.Pods), ByKubernetes, "when they have ended")
		}
		if s := c.Stable; s != nil && !s.Absent && !same(d.Image, s.Image) {
			c.drift(Live, name+" image", s.Image, d.Image, BySluice, "a revert commit, or a release that passes")
		}
	}
}

// route looks whether all traffic goes to the stable version.
func (c *comparison) route() {
	r := c.Route
	if r == nil || !c.rest {
		return
	}
	name := "httproute " + c.Service
	if r.Absent {
		c.drift(Live, name, "there", "absent", ByArgoCD, "by a sync: sluice-argo sync")
	}
	routed := r.Absent
	for i, rule := range r.Rules {
		if rule.Stable < 0 && rule.Canary < 0 {
			continue // of something else
		}
		routed = true
		if rule.Canary > 0 || rule.Stable <= 0 {
			c.drift(Live, fmt.Sprintf("%s rule %d", name, i+1), "all to stable", rule.String(), BySluice, "the hooks of the next sync put it to rest: sluice-argo sync")
		}
	}
	if !routed {
		c.drift(Live, name, "a rule for "+c.Service+"-stable", "none", ByArgoCD, "by self-heal or sluice-argo sync")
	}
}

func (r Rule) String() string {
	say := func(name string, weight int) string {
		if weight < 0 {
			return "no " + name
		}
		return fmt.Sprintf("%s %d", name, weight)
	}
	return say("stable", r.Stable) + ", " + say("canary", r.Canary)
}

// leftovers are what hooks that died have left.
func (c *comparison) leftovers() {
	if !c.rest {
		return
	}
	for _, j := range c.Jobs {
		if j.Active {
			c.drift(Live, "job "+j.Name, "ended, as no sync is under way", "running", ByPerson, fmt.Sprintf("it ends at its deadline; at once: kubectl delete job -n %s %s", c.Namespace, j.Name))
		}
	}
	if l := c.Ledger; l != nil && l.Open != nil {
		c.drift(Live, fmt.Sprintf("ledger rollout %d", l.Open.Rollout), "ended, as no sync is under way", "open: "+l.Open.Version, BySluice, "the next hook closes it; at once: sluice-argo rollback")
	}
}
