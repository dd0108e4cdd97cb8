package drift

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind tells a difference from not knowing.
type Kind string

// The kinds of differences.
const (
	Drift   Kind = "drift"
	Unknown Kind = "unknown" // evidence is missing
)

// Mender is who should mend a difference.
type Mender string

// Who mends what.
const (
	ByArgoCD     Mender = "Argo CD"
	BySluice     Mender = "sluice"
	ByKubernetes Mender = "Kubernetes"
	ByPerson     Mender = "a person"
)

// Difference is one thing that is not as it should be.
type Difference struct {
	Kind   Kind   `json:"kind"`
	View   string `json:"view"`  // git, argocd, live or probes
	Where  string `json:"where"` // the object and the part of it
	Want   string `json:"want"`
	Got    string `json:"got"`
	Mender Mender `json:"mender"`
	How    string `json:"how"` // it is mended
}

// stale is the age from which Argo CD's word counts as missing: it looks every
// three to four minutes unless told otherwise.
const stale = time.Hour

// Compare lists what differs, nothing if the four views agree and all of them
// are known. It does no I/O.
func Compare(v View) []Difference {
	c := comparison{View: v, rest: v.Busy() == ""}
	for _, m := range v.Missing {
		c.unknown(m.View, m.Where, "an answer", m.Why, cmp.Or(m.Advice, "see why it cannot be read, and run this again"))
	}
	c.git()
	c.argoCD()
	c.stable()
	c.canary()
	c.route()
	c.leftovers()
	c.probes()
	return c.found
}

// comparison collects differences.
type comparison struct {
	View
	rest  bool // nothing is meant to move
	found []Difference
}

func (c *comparison) drift(view, where, want, got string, by Mender, how string) {
	c.found = append(c.found, Difference{Drift, view, where, want, got, by, how})
}

func (c *comparison) unknown(view, where, want, got, how string) {
	c.found = append(c.found, Difference{Unknown, view, where, want, got, ByPerson, how})
}

// refresh is the command that makes Argo CD look.
func (c *comparison) refresh() string {
	namespace, name, _ := strings.Cut(c.App, "/")
	return fmt.Sprintf("kubectl annotate application -n %s %s argocd.argoproj.io/refresh=normal", namespace, name)
}

// git compares what git asks for with what Argo CD has taken note of.
func (c *comparison) git() {
	g, a := c.Git, c.ArgoCD
	switch {
	case g == nil:
	case g.Refused != "":
		c.drift(InGit, "targetRevision", "a branch, tag or constraint that resolves", g.Refused, ByPerson, "change spec.source.targetRevision of the Application")
	case a == nil || !c.rest:
	case a.Revision == "":
		c.unknown(InGit, "revision", short(g.Commit), "Argo CD does not say which commit it compares with", "is its application controller running?")
	case g.Commit != a.Revision:
		c.drift(InGit, "revision of "+g.Name, short(g.Commit), short(a.Revision), ByArgoCD, "when it looks at git next; at once: "+c.refresh())
	}
}

// argoCD looks at what Argo CD says itself.
func (c *comparison) argoCD() {
	a := c.ArgoCD
	if a == nil {
		return
	}
	for _, t := range a.Conditions {
		if t.Type == "ComparisonError" || t.Type == "UnknownError" {
			c.unknown(InArgoCD, t.Type, "no error", t.Message, "Argo CD cannot compare until this is put right")
			continue
		}
		c.drift(InArgoCD, t.Type, "no such condition", t.Message, ByPerson, "the message says what is wrong")
	}
	if age := c.At.Sub(a.Reconciled); a.Reconciled.IsZero() || age > stale {
		got := "it never looked"
		if !a.Reconciled.IsZero() {
			got = fmt.Sprintf("the last was %v ago", age.Truncate(time.Minute))
		}
		c.unknown(InArgoCD, "reconciliation", fmt.Sprintf("a look within %v", stale), got, "is its application controller running? this asks for a look: "+c.refresh())
	}
	if c.rest {
		c.synced(a)
		c.healthy(a)
	}
}

func (c *comparison) synced(a *ArgoCD) {
	by, how := ByPerson, "sluice-argo sync; automated sync is off"
	switch {
	case a.SelfHeal:
		by, how = ByArgoCD, "by self-heal"
	case a.Automated:
		how = "sluice-argo sync; self-heal is off, so only a new commit is synced by itself"
	}
	switch a.Sync {
	case "Synced":
	case "OutOfSync":
		for _, r := range a.OutOfSync {
			c.drift(InArgoCD, r, "Synced", "OutOfSync", by, how)
		}
		if len(a.OutOfSync) == 0 {
			c.drift(InArgoCD, "sync status", "Synced", "OutOfSync", by, how)
		}
	default:
		c.unknown(InArgoCD, "sync status", "Synced", cmp.Or(a.Sync, "nothing"), "the conditions of the Application say why")
	}
	switch a.Phase {
	case "", "Succeeded":
	default:
		c.drift(InArgoCD, "last sync", "Succeeded", strings.TrimSuffix(a.Phase+": "+a.Message, ": "), ByPerson, "Argo CD does not repeat it for the same commit: a revert commit, a new release, or sluice-argo sync")
	}
}

func (c *comparison) healthy(a *ArgoCD) {
	switch a.Health {
	case "Healthy":
	case "Progressing":
		c.drift(InArgoCD, "health", "Healthy", a.Health, ByKubernetes, "when its pods are ready")
	case "", "Unknown":
		c.unknown(InArgoCD, "health", "Healthy", cmp.Or(a.Health, "nothing"), "the conditions of the Application say why")
	default:
		c.drift(InArgoCD, "health", "Healthy", a.Health, ByPerson, "kubectl describe the objects that are not")
	}
}

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

func (c *comparison) missing(view string) bool {
	return slices.ContainsFunc(c.Missing, func(m Missing) bool { return m.View == view })
}

// same reports whether two references mean the same bytes.
func same(a, b string) bool {
	if x, y := digest(a), digest(b); x != "" && y != "" {
		return x == y
	}
	return a == b
}

func digest(ref string) string {
	if i := strings.LastIndex(ref, "sha256:"); i >= 0 {
		return ref[i:]
	}
	return ""
}

// short is a commit or digest for a person.
func short(s string) string {
	if s == "" {
		return "any"
	}
	if hex, ok := strings.CutPrefix(s, "sha256:"); ok {
		return fmt.Sprintf("sha256:%.12s", hex)
	}
	return fmt.Sprintf("%.12s", s)
}
