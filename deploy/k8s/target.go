// Package k8s moves traffic between the two Deployments of a service in a
// Kubernetes cluster: NAME-stable, which is never written, and NAME-canary.
//
// There are two ways. With a route the weights of the HTTPRoute NAME are set, in
// one write that fails when somebody else wrote meanwhile. Without one the
// Service NAME selects the pods of both Deployments and the canary's share is its
// share of the pods. Nothing is kept outside the cluster: what a killed process
// left is found, recognized as ours, and put right by [Target.Settle].
//
// Every call outlives an API server that restarts: package apiserver repeats it
// until the deadline of its context, or for 20 seconds without one; Open for a
// minute at most. The package knows nothing of verdicts, Argo CD, or the history of
// rollouts, which package ledger keeps.
//
// To read it: target.go, open.go (what has to be there), then a rollout in its
// order, start.go, grow.go (pods), traffic.go, and who does the writing, route.go
// and weights.go or scale.go. What is observed meanwhile: endpoints.go, probes.go,
// gone.go; what is told: errors.go, words.go, event.go.
package k8s

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

// openLimit is how long Open waits for an API server that is away.
const openLimit = time.Minute

// Service says which service of a cluster is meant and how its traffic is moved.
type Service struct {
	Name      string
	Namespace string
	Port      int           // of the Services; 0 if it does not matter
	Route     bool          // traffic by the weights of the HTTPRoute NAME, else by the share of the pods
	Header    bool          // the first rule of the route matches a header: Target.Header can be used
	Ready     time.Duration // how long pods may take to get ready; two minutes if 0
}

func (s Service) stable() string { return s.Name + "-stable" }
func (s Service) canary() string { return s.Name + "-canary" }

// ready is how long pods may take to get ready.
func (s Service) ready() time.Duration {
	if s.Ready <= 0 {
		return 2 * time.Minute
	}
	return s.Ready
}

// Target is a service in a cluster. It may be used by one goroutine at a time,
// except for Gone and Close.
type Target struct {
	svc    Service
	api    *apiserver.Client
	images [2]string // stable, canary

	id       string  // tells the writes of this target from those of another
	traffic  traffic // what was found or written last
	replicas int     // of the canary, found or written last
	asked    int     // those that the last write asked for, whether or not it was answered
	moved    time.Time

	growth   *growth // towards the next weight; nil: none
	prepared int     // the weight for which there is everything; 0: none

	restarts map[string]int32 // of the canary's pods when it had started
	gone     chan struct{}
	look     sync.Once
	// Shift and Gone have no context of their own.
	life    context.Context //nolint:containedctx // ends with Close
	end     context.CancelFunc
	rollout context.Context //nolint:containedctx // that of Start
}

// New prepares a target without asking the cluster anything. It is for Settle,
// Isolate and Event when Open refuses: a rollback must not depend on everything
// being in order.
func New(cfg *rest.Config, s Service) (*Target, error) {
	if s.Name == "" || s.Namespace == "" {
		return nil, errors.New("a service in a cluster needs a name and a namespace")
	}
	a, err := apiserver.New(cfg)
	if err != nil {
		return nil, err
	}
	id := make([]byte, 6)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	t := &Target{svc: s, api: a, id: hex.EncodeToString(id), replicas: -1, asked: -1, gone: make(chan struct{})}
	t.life, t.end = context.WithCancel(context.Background())
	t.rollout = t.life
	return t, nil
}

// Open checks that the service is there, is ours, may be worked on and is at
// rest or as a killed rollout of ours left it. It writes nothing. Errors:
// *apiserver.ForbiddenError, *AbsentError, *apiserver.ForeignError, *UnfitError,
// *WeightsError, *NoEndpointsError.
func Open(ctx context.Context, cfg *rest.Config, s Service) (*Target, error) {
	t, err := New(cfg, s)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	if err := t.check(ctx); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// Close ends what runs in the background: Gone is not closed any more, and a
// Shift that waits for pods gives up. Isolate and Settle can still be used.
func (t *Target) Close() {
	t.end()
	t.api.Close()
}

// Images returns the images of the two versions as Open found them: those of
// the containers NAME in the pod templates.
func (t *Target) Images() (stable, canary string) { return t.images[0], t.images[1] }

// Replicas is how many pods a canary needs for a weight in ten-thousandths,
// beside a stable version with a number of pods: with a route so many that each
// of them gets no more than a pod of the stable version, without one so many
// that their share is closest to the weight. At least one for any weight.
func Replicas(weight, stable int, route bool) int {
	switch {
	case weight <= 0:
		return 0
	case route:
		return max(1, (stable*weight+full-1)/full)
	case weight >= full:
		return max(1, stable)
	}
	// c/(c+s) is w at c = s·w/(1−w); of the whole numbers around it the closer
	// share, the smaller in doubt.
	c := stable * weight / (full - weight)
	off := func(c int) float64 {
		d := float64(c)/float64(c+stable) - float64(weight)/full
		return max(d, -d)
	}
	if stable > 0 && off(c+1) < off(c) {
		c++
	}
	return max(1, c)
}

// list joins words for a message.
func list(words []string) string {
	words = slices.Compact(slices.Sorted(slices.Values(words)))
	return strings.Join(words, ", ")
}
