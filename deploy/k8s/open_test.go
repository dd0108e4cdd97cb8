package k8s

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

// TestOpenRefusesWhatIsNotInOrder breaks a service that is in order in one way
// at a time.
func TestOpenRefusesWhatIsNotInOrder(t *testing.T) {
	const route = "/apis/gateway.networking.k8s.io/v1/namespaces/%/httproutes/shop"
	const scale = "/apis/apps/v1/namespaces/%/deployments/shop-canary/scale"
	const canary = "/apis/apps/v1/namespaces/%/deployments/shop-canary"
	const service = "/api/v1/namespaces/%/services/shop-canary"
	w := newWorld(t, Service{Route: true, Header: true})
	plain := Service{Name: w.svc.Name, Namespace: w.svc.Namespace, Port: 80}
	rules := func(rules string) string { return `{"spec":{"rules":` + rules + `}}` }
	const inOrder = `{"matches":[{"headers":[{"name":"x-env","value":"canary"}]}],"backendRefs":[{"name":"shop-stable","port":80,"weight":100},{"name":"shop-canary","port":80,"weight":0}]}`
	const rest = `{"backendRefs":[{"name":"shop-stable","port":80,"weight":100},{"name":"shop-canary","port":80,"weight":0}]}`
	for name, tt := range map[string]struct {
		path, bad, good string
		as              Service
		want            string
		is              any
	}{
		"a canary that somebody scaled": {
			canary, `{"spec":{"replicas":3}}`, `{"spec":{"replicas":0}}`, plain,
			"deployment shop-canary has 3 replicas, set by jane: those are not weights of ours", new(*WeightsError),
		},
		"a canary that somebody scaled, by its scale": {
			scale, `{"spec":{"replicas":1}}`, `{"spec":{"replicas":0}}`, plain,
			"deployment shop-canary has 1 replicas, set by ", new(*WeightsError),
		},
		"weights that somebody set": {
			route, rules("[" + inOrder + "," + strings.NewReplacer("100", "70", `:0}`, `:30}`).Replace(rest) + "]"), rules("[" + inOrder + "," + rest + "]"), w.svc,
			"httproute shop divides traffic stable:canary 100:0 and 70:30, set by jane", new(*WeightsError),
		},
		"weights that nobody set are one to one": {
			route, rules(`[` + inOrder + `,{"backendRefs":[{"name":"shop-stable","port":80},{"name":"shop-canary","port":80}]}]`), rules("[" + inOrder + "," + rest + "]"), w.svc,
			"httproute shop divides traffic stable:canary 100:0 and 1:1", new(*WeightsError),
		},
		"our scale without our note": {
			route, rules("[" + inOrder + "," + strings.NewReplacer("100", "9000", `:0}`, `:1000}`).Replace(rest) + "]"), rules("[" + inOrder + "," + rest + "]"), w.svc,
			"divides traffic stable:canary 100:0 and 9000:1000, set by jane", new(*WeightsError),
		},
		"a third backend": {
			route, rules(`[` + inOrder + `,{"backendRefs":[{"name":"shop-stable","port":80,"weight":100},{"name":"shop-canary","port":80,"weight":0},{"name":"old","port":80,"weight":5}]}]`), rules("[" + inOrder + "," + rest + "]"), w.svc,
			"httproute shop has a rule (number 2) with shop-canary but not exactly the two backends", new(*UnfitError),
		},
		"no header rule": {
			route, rules("[" + rest + "]"), rules("[" + inOrder + "," + rest + "]"), w.svc,
			"httproute shop has no header match in its first rule", new(*UnfitError),
		},
		"a route without the canary": {
			route, rules(`[{"backendRefs":[{"name":"shop-stable","port":80}]}]`), rules("[" + inOrder + "," + rest + "]"), w.svc,
			"httproute shop has no rule with the backends shop-stable and shop-canary", new(*UnfitError),
		},
		"a route of somebody else": {
			route, `{"metadata":{"labels":{"app.kubernetes.io/managed-by":"helm"}}}`, `{"metadata":{"labels":{"app.kubernetes.io/managed-by":"sluice"}}}`, w.svc,
			"httproute shop is not ours: it is managed by helm and lacks app.kubernetes.io/managed-by=sluice", new(*apiserver.ForeignError),
		},
		"a Deployment of another service": {
			canary, `{"metadata":{"labels":{"app.kubernetes.io/part-of":"cart"}}}`, `{"metadata":{"labels":{"app.kubernetes.io/part-of":"shop"}}}`, plain,
			"deployment shop-canary is not ours: it is managed by sluice for cart", new(*apiserver.ForeignError),
		},
		"a Deployment without labels": {
			canary, `{"metadata":{"labels":null}}`, `{"metadata":{"labels":{"app.kubernetes.io/managed-by":"sluice","app.kubernetes.io/part-of":"shop"}}}`, plain,
			" and lacks app.kubernetes.io/managed-by=sluice", new(*apiserver.ForeignError),
		},
		"pods without the track": {
			service, `{"spec":{"selector":{"sluice.dev/track":"stable"}}}`, `{"spec":{"selector":{"sluice.dev/track":"canary"}}}`, plain,
			`service shop-canary selects pods with sluice.dev/track="stable", not "canary"`, new(*UnfitError),
		},
		"another port": {
			service, `{"spec":{"ports":[{"name":"http","port":8080}]}}`, `{"spec":{"ports":[{"name":"http","port":80,"targetPort":"http"}]}}`, plain,
			"service shop-canary has no port 80 named http", new(*UnfitError),
		},
		"another container": {
			canary, `{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"example.com/shop:1"}]}}}}`, `{"spec":{"template":{"spec":{"containers":[{"name":"shop","image":"example.com/shop:1"}]}}}}`, plain,
			"deployment shop-canary has no container named shop", new(*UnfitError),
		},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			path := strings.Replace(tt.path, "%", w.svc.Namespace, 1)
			w.patch("jane", path, tt.bad)
			defer w.patch("jane", path, tt.good)
			w.refused(w.plane.Config, tt.as, tt.want, tt.is)
		})
	}
	w.t = t
	w.open() // in order again
	w.untouched()
}

func TestOpenNamesEverythingThatIsAbsent(t *testing.T) {
	w := newWorld(t, Service{})
	w.refused(w.plane.Config, Service{Name: "cart", Namespace: w.svc.Namespace},
		"namespace "+w.svc.Namespace+" has no deployment cart-canary, deployment cart-stable, service cart, service cart-canary, service cart-stable", new(*AbsentError))
	w.refused(w.plane.Config, Service{Name: "shop", Namespace: "nowhere", Route: true},
		"namespace nowhere has no deployment shop-canary", new(*AbsentError))
	w.refused(w.plane.Config, Service{Name: "shop", Namespace: w.svc.Namespace, Route: true},
		"namespace "+w.svc.Namespace+" has no httproute shop", new(*AbsentError))
	w.remove("/apis/apps/v1/namespaces/" + w.svc.Namespace + "/deployments/shop-stable")
	_, err := Open(t.Context(), w.cfg, w.svc)
	var absent *AbsentError
	if !errors.As(err, &absent) || !absent.First || len(absent.Objects) != 1 {
		t.Errorf("before the first release: %v", err)
	}
}

func TestOpenNamesWhatIsForbidden(t *testing.T) {
	w := newWorld(t, Service{})
	w.refused(w.cfg, Service{Name: "shop", Namespace: w.svc.Namespace, Route: true},
		"in namespace "+w.svc.Namespace+" this account may not get httproutes shop, patch httproutes shop", new(*apiserver.ForbiddenError))
	w.refused(w.cfg, Service{Name: "shop", Namespace: "default"},
		"in namespace default this account may not get deployments shop-stable, get deployments shop-canary, patch deployments/scale shop-canary, and do 7 more things", new(*apiserver.ForbiddenError))
	_, err := Probes(t.Context(), w.cfg, "default", 9640)
	var forbidden *apiserver.ForbiddenError
	if !errors.As(err, &forbidden) {
		t.Errorf("probes of another namespace: %v", err)
	}
}

func TestOpenNeedsAStableVersionThatServes(t *testing.T) {
	w := newWorld(t, Service{})
	w.patch("jane", "/apis/apps/v1/namespaces/"+w.svc.Namespace+"/deployments/shop-stable", `{"spec":{"replicas":0}}`)
	w.await("nothing serves", func() bool { return w.endpoints("shop-stable") == 0 })
	w.await("pods are gone", func() bool { pods, err := w.asAdmin().pods(t.Context(), "stable"); return err == nil && len(pods) == 0 })
	w.refused(w.cfg, w.svc, "service shop-stable has no ready endpoint: the Deployment has 0 replicas", new(*NoEndpointsError))
}

func TestAClusterWithoutTheGatewayAPI(t *testing.T) {
	w := newWorld(t, Service{})
	s := w.svc
	s.Route = true
	target, err := New(w.plane.Config, s)
	if err != nil {
		t.Fatal(err)
	}
	err = target.api.Get(t.Context(), "/apis/no.such.group/v1/namespaces/default/httproutes/shop", nil)
	if !apiserver.UnknownKind(err) {
		t.Errorf("an unknown group: %v", err)
	}
	err = target.api.Get(t.Context(), "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes/shop", nil)
	if apiserver.UnknownKind(err) {
		t.Errorf("an unknown route: %v", err)
	}
}
