package render

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// The part of an HTTPRoute (gateway.networking.k8s.io/v1) that is used here. Its
// own types would bind this module to a release of the Gateway API, and the
// target kubernetes works with any.
type (
	httpRoute struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              routeSpec `json:"spec"`
	}
	routeSpec struct {
		ParentRefs []parentRef `json:"parentRefs"`
		Hostnames  []string    `json:"hostnames,omitempty"`
		Rules      []routeRule `json:"rules"`
	}
	parentRef struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	}
	routeRule struct {
		Matches     []routeMatch `json:"matches,omitempty"`
		BackendRefs []backendRef `json:"backendRefs"`
	}
	routeMatch struct {
		Headers []headerMatch `json:"headers"`
	}
	headerMatch struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	backendRef struct {
		Name   string `json:"name"`
		Port   int    `json:"port"`
		Weight int    `json:"weight"`
	}
)

// httpRoute sends everything to the stable version. The rule for the header comes
// first: of two rules that match, the more specific one wins, and the order says so.
func (s *service) httpRoute() httpRoute {
	namespace, name := s.k.GatewayName()
	backends := []backendRef{{s.name + "-" + stable, s.k.Port, 100}, {s.name + "-" + canary, s.k.Port, 0}}
	rules := []routeRule{{BackendRefs: backends}}
	if header, value := s.k.HeaderMatch(); header != "" {
		first := routeRule{Matches: []routeMatch{{Headers: []headerMatch{{header, value}}}}, BackendRefs: backends}
		rules = append([]routeRule{first}, rules...)
	}
	return httpRoute{
		TypeMeta:   kind("gateway.networking.k8s.io/v1", "HTTPRoute"),
		ObjectMeta: wave(s.meta(s.name, ""), waveTraffic),
		Spec:       routeSpec{ParentRefs: []parentRef{{namespace, name}}, Hostnames: s.k.Hostnames, Rules: rules},
	}
}
