package k8s

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

// Probe is the daemon of one node.
type Probe struct {
	Node   string
	Target string // where it is asked, as wire.Dial takes it; empty while its pod has no address
	Ready  bool
}

// Probes lists the daemons of the DaemonSet sluice-probe in a namespace, one a
// node, sorted. While a node's pod is replaced it is the newer one that does not
// end. A namespace without any is an empty list; the error is an
// *apiserver.ForbiddenError if they may not be listed.
func Probes(ctx context.Context, cfg *rest.Config, namespace string, port int) ([]Probe, error) {
	a, err := apiserver.New(cfg)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	var pods core.PodList
	err = a.List(ctx, "/api/v1/namespaces/"+namespace+"/pods", nameLabel+"=sluice-probe", &pods)
	if apierrors.IsForbidden(err) {
		return nil, &apiserver.ForbiddenError{Namespace: namespace, Missing: []apiserver.Permission{{Verb: "list", Resource: "pods"}}}
	}
	if err != nil {
		return nil, fmt.Errorf("listing the probes in namespace %s: %w", namespace, err)
	}
	return choose(pods.Items, port), nil
}

func choose(pods []core.Pod, port int) []Probe {
	best := map[string]core.Pod{}
	for _, p := range pods {
		if p.Spec.NodeName == "" || p.Status.Phase == core.PodFailed || p.Status.Phase == core.PodSucceeded {
			continue
		}
		if was, ok := best[p.Spec.NodeName]; !ok || better(p, was) {
			best[p.Spec.NodeName] = p
		}
	}
	var list []Probe
	for node, p := range best {
		probe := Probe{Node: node, Ready: podReady(p) && p.DeletionTimestamp == nil}
		if p.Status.PodIP != "" {
			probe.Target = "http://" + net.JoinHostPort(p.Status.PodIP, strconv.Itoa(port))
		}
		list = append(list, probe)
	}
	slices.SortFunc(list, func(a, b Probe) int { return cmp.Compare(a.Node, b.Node) })
	return list
}

// better prefers a pod that stays, then the newer one.
func better(a, b core.Pod) bool {
	if stays := a.DeletionTimestamp == nil; stays != (b.DeletionTimestamp == nil) {
		return stays
	}
	return b.CreationTimestamp.Before(&a.CreationTimestamp)
}
