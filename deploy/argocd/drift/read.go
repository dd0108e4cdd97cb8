package drift

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/deploy/argocd/hook"
	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
	"github.com/sluice-cd/sluice/internal/release"
)

// patience is how long one part of a view may take to read.
const patience = 10 * time.Second

// Reader reads views of one service. It takes get of its Application, of its
// Deployments, route and ledger, and list of pods (also where the probes are) and
// Jobs. It may be used by one goroutine at a time.
type Reader struct {
	settings hook.Settings
	rest     *rest.Config
	api      dynamic.Interface
	now      func() time.Time
	git      struct {
		target string
		at     time.Time
		found  *Git
	}
}

// NewReader prepares a reader; nothing is sent yet. Of the settings Config, App,
// AppNamespace, Git and Etcd count.
func NewReader(s hook.Settings, cfg *rest.Config) (*Reader, error) {
	if s.Config.Deploy.Target != "kubernetes" {
		return nil, &hook.SettingsError{
			What:   fmt.Sprintf("deploy.target is %s, drift needs kubernetes", s.Config.Deploy.Target),
			Advice: "name the sluice.yaml of a service in a cluster with -f",
		}
	}
	cfg = rest.CopyConfig(cfg)
	cfg.Timeout = patience / 2 // of one request
	cfg.QPS, cfg.Burst = 50, 50
	cfg.WarningHandler = rest.NoWarnings{}
	api, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("preparing a client of the API server: %w", err)
	}
	return &Reader{settings: s, rest: cfg, api: api, now: time.Now}, nil
}

func (r *Reader) service() string { return r.settings.Config.Name }
func (r *Reader) namespace() string {
	return cmp.Or(r.settings.Config.Deploy.Kubernetes.Namespace, r.service())
}

// Read reads all four views. What cannot be read is in View.Missing: there is no
// error. It takes at most half a minute, whoever does not answer.
func (r *Reader) Read(ctx context.Context) View {
	v := View{
		At: r.now(), Service: r.service(), Namespace: r.namespace(), App: r.settings.AppNamespace + "/" + r.settings.App,
		Want: Want{Replicas: r.settings.Config.Deploy.Kubernetes.Replicas},
	}
	c := &collector{view: &v}
	before, source := r.application(ctx, c)
	var all sync.WaitGroup
	for _, part := range []func(context.Context, *collector){
		func(ctx context.Context, c *collector) { r.readGit(ctx, c, source) },
		r.readStable, r.readCanary, r.readRoute, r.readJobs, r.readLedger, r.readNodes, r.readProbes,
	} {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			part(ctx, c)
		})
	}
	all.Wait()
	if before != nil {
		// A sync that began or ended meanwhile: the parts are not of one moment.
		v.ArgoCD, _ = r.application(ctx, c)
		if v.ArgoCD != nil {
			v.ArgoCD.Operating = v.ArgoCD.Operating || before.Operating || v.ArgoCD.Phase != before.Phase || v.ArgoCD.Revision != before.Revision
		}
	}
	slices.SortFunc(v.Missing, func(a, b Missing) int { return cmp.Or(cmp.Compare(a.View, b.View), cmp.Compare(a.Where, b.Where)) })
	return v
}

// collector takes what is read at the same time.
type collector struct {
	mu   sync.Mutex
	view *View
}

func (c *collector) put(set func(*View)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set(c.view)
}

func (c *collector) missing(view, where string, err error) {
	m := Missing{View: view, Where: where, Why: err.Error()}
	var hinted interface{ Hint() string }
	switch {
	case errors.As(err, &hinted):
		m.Advice = hinted.Hint()
	case apierrors.IsForbidden(err):
		m.Advice = "this account lacks the permission; kubectl auth can-i --list shows what it has"
	}
	c.put(func(v *View) { v.Missing = append(v.Missing, m) })
}

var (
	applications = schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "applications"}
	deployments  = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	routes       = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}
	jobs         = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
	pods         = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
)

// get reads an object. It is false for one that is not there, which is no error
// if the API server knows the kind.
func (r *Reader) get(ctx context.Context, kind schema.GroupVersionResource, namespace, name string, into any) (bool, error) {
	u, err := r.api.Resource(kind).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && !apiserver.UnknownKind(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading %s %s/%s: %w", kind.Resource, namespace, name, err)
	}
	raw, err := u.MarshalJSON() // some types of Argo CD make runtime's converter panic
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		return false, fmt.Errorf("reading %s %s/%s: %w", kind.Resource, namespace, name, err)
	}
	return true, nil
}

// list reads the objects of a kind with these labels.
func (r *Reader) list(ctx context.Context, kind schema.GroupVersionResource, labels string, into any) error {
	found, err := r.api.Resource(kind).Namespace(r.namespace()).List(ctx, metav1.ListOptions{LabelSelector: labels})
	if err != nil {
		return fmt.Errorf("listing %s in %s: %w", kind.Resource, r.namespace(), err)
	}
	raw, err := found.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		return fmt.Errorf("listing %s in %s: %w", kind.Resource, r.namespace(), err)
	}
	return nil
}

func (r *Reader) readLedger(ctx context.Context, c *collector) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	log, err := r.settings.Ledger(ctx, r.rest)
	if err != nil {
		c.missing(Live, "ledger", err)
		return
	}
	records, err := log.Records(ctx)
	if err != nil {
		c.missing(Live, "ledger", err)
		return
	}
	l := &Ledger{}
	if serves, ok := release.Running(records); ok {
		l.Serves = released(serves.Rollout)
	}
	if open := release.Unfinished(records); len(open) > 0 {
		l.Open = released(open[len(open)-1])
	}
	c.put(func(v *View) { v.Ledger = l })
}

func released(r release.Rollout) *Release {
	return &Release{Rollout: r.ID, Version: r.Version, Image: r.Image, Object: r.Object}
}
