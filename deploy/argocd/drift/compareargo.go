package drift

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

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
	failed := a.Phase != "" && a.Phase != "Succeeded"
	const again = "Argo CD does not repeat a sync that failed for the same commit: a revert commit, a new release, or sluice-argo sync"
	switch {
	case failed:
		how = again
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
	if failed {
		c.drift(InArgoCD, "last sync", "Succeeded", strings.TrimSuffix(a.Phase+": "+a.Message, ": "), ByPerson, again)
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
