// Package drift says where four views of one service differ: what git asks for,
// what Argo CD sees, what is in the cluster, and what the probes have loaded.
//
// [Reader.Read] collects a [View] and changes nothing, [Compare] is pure, and
// [Watch] times how long differences last. Evidence that is missing is a
// difference of its own kind, [Unknown]: it is never taken for agreement. While a
// sync is under way what it moves is not compared.
package drift

import (
	"time"
)

// The four views.
const (
	InGit    = "git"
	InArgoCD = "argocd"
	Live     = "live"
	Loaded   = "probes"
)

// View is what was found of a service at one moment. A part that could not be
// read is nil, and Missing says why.
type View struct {
	At        time.Time
	Service   string
	Namespace string
	App       string // namespace/name
	Want      Want

	Git     *Git
	ArgoCD  *ArgoCD
	Stable  *Deployment
	Canary  *Deployment
	Route   *Route // nil too if traffic goes by replicas
	Jobs    []Job  // of hooks
	Ledger  *Ledger
	Nodes   []string // where pods of the service run
	Probes  []Probe  // on all nodes
	Missing []Missing
}

// Want is what the configuration asks for.
type Want struct {
	Replicas int // of the stable version
}

// Git is what the Application asks for, in the repository as it is now.
type Git struct {
	Target  string // the targetRevision
	Name    string // of the branch or tag that it stands for
	Commit  string
	Refused string // why the targetRevision stands for nothing; else empty
}

// ArgoCD is what the Application's status says.
type ArgoCD struct {
	Operating  bool // a sync is asked for or under way
	Sync       string
	Health     string
	Revision   string // of git, that it compares with
	Phase      string // of the last operation; empty if there was none
	Message    string // of the last operation
	Reconciled time.Time
	Automated  bool
	SelfHeal   bool
	OutOfSync  []string    // resources, as "Deployment shop-stable"
	Conditions []Condition // those that speak of trouble
}

// Condition is one of an Application.
type Condition struct{ Type, Message string }

// Deployment is one of the two.
type Deployment struct {
	Absent   bool
	Image    string
	Replicas int // asked for
	Pods     int // that there are, old and new ones
	Ready    int // of the newest template
}

// Route is how the HTTPRoute divides traffic.
type Route struct {
	Absent bool
	Rules  []Rule
}

// Rule has the weights of the two backends; -1 is a backend that is not there.
type Rule struct{ Stable, Canary int }

// Job is one of a hook.
type Job struct {
	Name   string
	Active bool
}

// Ledger is what the ledger knows of now.
type Ledger struct {
	Serves *Release // the last one that was promoted and not withdrawn
	Open   *Release // has begun and not ended
}

// Release is one line of the ledger.
type Release struct {
	Rollout int
	Version string
	Image   string // a digest, or a reference that ends with one
	Object  string // digest of the eBPF object; empty: any
}

// Probe is the daemon of a node.
type Probe struct {
	Node     string
	Ready    bool
	Silent   string // why it could not be asked; else empty
	Object   string // digest of what it has loaded
	Mismatch string // how the kernel differs from that; else empty
}

// Missing is evidence that could not be had.
type Missing struct {
	View, Where string
	Why         string
	Advice      string
}

// Busy says why the service may be moving; empty if it is at rest.
func (v View) Busy() string {
	switch {
	case v.ArgoCD != nil && v.ArgoCD.Operating:
		return "Argo CD is syncing"
	case v.ArgoCD != nil:
		return "" // a rollout without a sync is a leftover
	case v.Ledger == nil:
		return "whether a rollout is under way is not known"
	case v.Ledger.Open != nil:
		return "a rollout of " + v.Ledger.Open.Version + " is under way"
	}
	return ""
}
