package k8s

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	discovery "k8s.io/api/discovery/v1"
)

// portName is the name of the port that clients use, in Services and containers.
const portName = "http"

// endpoint is one pod behind a Service.
type endpoint struct {
	addr        netip.AddrPort
	node        string
	ready       bool
	terminating bool
}

// endpoints lists the pods behind the named Services, by Service.
func (t *Target) endpoints(ctx context.Context, services ...string) (map[string][]endpoint, error) {
	var slices discovery.EndpointSliceList
	path := fmt.Sprintf("/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices", t.svc.Namespace)
	selector := discovery.LabelServiceName + " in (" + services[0]
	for _, s := range services[1:] {
		selector += "," + s
	}
	if err := t.api.List(ctx, path, selector+")", &slices); err != nil {
		return nil, fmt.Errorf("listing endpoint slices: %w", err)
	}
	found := map[string][]endpoint{}
	for _, s := range slices.Items {
		service := s.Labels[discovery.LabelServiceName]
		found[service] = append(found[service], read(s)...)
	}
	return found, nil
}

// read turns a slice into endpoints; a slice without the port has none.
func read(s discovery.EndpointSlice) []endpoint {
	port, ok := targetPort(s.Ports)
	if !ok || s.AddressType == discovery.AddressTypeFQDN {
		return nil
	}
	var list []endpoint
	for _, e := range s.Endpoints {
		// All addresses of an endpoint are the same pod (discovery/v1, Endpoint).
		if len(e.Addresses) == 0 {
			continue
		}
		ip, err := netip.ParseAddr(e.Addresses[0])
		if err != nil {
			continue
		}
		found := endpoint{addr: netip.AddrPortFrom(ip, port)}
		if e.NodeName != nil {
			found.node = *e.NodeName
		}
		found.terminating = e.Conditions.Terminating != nil && *e.Conditions.Terminating
		// "Unknown" counts as ready (discovery/v1, EndpointConditions).
		found.ready = (e.Conditions.Ready == nil || *e.Conditions.Ready) && !found.terminating
		list = append(list, found)
	}
	return list
}

// targetPort is the port named http, or the only one.
func targetPort(ports []discovery.EndpointPort) (uint16, bool) {
	for _, p := range ports {
		named := p.Name != nil && *p.Name == portName
		if p.Port != nil && *p.Port > 0 && *p.Port <= 65535 && (named || len(ports) == 1) {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

// Addresses lists where the pods of both versions are reached: the address of
// the pod and the port of its container, sorted. Pods that end are among them,
// as long as they may still answer; pods that are not ready yet are not.
func (t *Target) Addresses(ctx context.Context) (stable, canary []netip.AddrPort, err error) {
	found, err := t.endpoints(ctx, t.svc.stable(), t.svc.canary())
	if err != nil {
		return nil, nil, err
	}
	return serving(found[t.svc.stable()]), serving(found[t.svc.canary()]), nil
}

func serving(list []endpoint) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, e := range list {
		if e.ready || e.terminating {
			addrs = append(addrs, e.addr)
		}
	}
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	return slices.Compact(addrs)
}

// Nodes lists the nodes on which pods of either version serve, sorted.
func (t *Target) Nodes(ctx context.Context) ([]string, error) {
	found, err := t.endpoints(ctx, t.svc.stable(), t.svc.canary())
	if err != nil {
		return nil, err
	}
	var nodes []string
	for _, list := range found {
		for _, e := range list {
			if e.node != "" && (e.ready || e.terminating) {
				nodes = append(nodes, e.node)
			}
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes), nil
}

// ready counts the endpoints that get new connections.
func ready(list []endpoint) int {
	n := 0
	for _, e := range list {
		if e.ready {
			n++
		}
	}
	return n
}
