package cluster

import (
	"context"
	"net/http"
)

// gatewayObjects let every namespace hang its routes on the gateway.
const gatewayObjects = `
apiVersion: v1
kind: Namespace
metadata: {name: infra}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: traefik}
spec: {controllerName: traefik.io/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, namespace: infra}
spec:
  gatewayClassName: traefik
  listeners: [{name: web, protocol: HTTP, port: 8000, allowedRoutes: {namespaces: {from: All}}}]
`

// gateway starts Traefik as a process of the host: it reaches pods by their own
// addresses.
func (s *supervisor) gateway(ctx context.Context) error {
	if err := Apply(ctx, s.admin, "", gatewayObjects); err != nil {
		return err
	}
	p, err := start(program{
		name: "traefik", path: s.Programs["traefik"], logs: s.logs(),
		env: []string{"KUBECONFIG=" + s.kubeconfig},
		args: []string{
			"--providers.kubernetesgateway=true", "--entrypoints.web.address=" + gatewayAddress,
			"--ping=true", "--entrypoints.traefik.address=127.0.0.1:8090",
			"--global.checknewversion=false", "--global.sendanonymoususage=false", "--log.level=INFO",
		},
	})
	if err != nil {
		return err
	}
	s.mind(p)
	if err := p.ready(ctx, answers(http.DefaultClient, "http://127.0.0.1:8090/ping")); err != nil {
		return err
	}
	s.say("the gateway is ready")
	return nil
}
