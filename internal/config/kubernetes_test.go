package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// cluster is the smallest file for the target kubernetes, and ends inside deploy.
const cluster = `name: hello
build: {main: ./cmd/hello}
service: {port: 8080}
publish: {registry: registry.example.com/team/hello}
deploy:
  target: kubernetes
`

const everything = `  kubernetes:
    namespace: shop
    image: registry.example.com/other/shop
    replicas: 5
    traffic: httproute
    gateway: infra/web
    hostnames: [shop.example.com, "*.example.org"]
    header: "x-env:  canary"
    port: 8000
    ready: 1m
    resources: {cpu: 1.5, memory: 1Gi}
    pull_secret: registry
    hook_memory: 1Gi
    ledger: {etcd: ["https://etcd.example.com:2379", "http://127.0.0.1:2379"], secret: etcd}
    probe: {namespace: probes, port: 1234, grace: 2s}
  argocd:
    namespace: gitops
    project: web
    repository: git@git.example.com:team/shop.git
    path: ./deploy//shop/
    revision: 1.*
    revert: branch
    secret: shop-git
`

func TestClusterIsComplete(t *testing.T) {
	c, err := Parse([]byte(cluster+"  argocd: {repository: 'https://git.example.com/a.git', path: .}\n"), "sluice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Kubernetes{
		Namespace: "hello", Image: "registry.example.com/team/hello", Replicas: 3, Traffic: "replicas", Port: 80, Ready: Duration(2 * time.Minute),
		Resources: Resources{CPU: "100m", Memory: "64Mi"}, HookMemory: "256Mi", Probe: Probe{Namespace: "sluice-system", Port: 9640, Grace: Duration(10 * time.Second)},
	}, c.Deploy.Kubernetes); diff != "" {
		t.Errorf("kubernetes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(ArgoCD{Namespace: "argocd", Project: "hello", Repository: "https://git.example.com/a.git", Path: ".", Revision: "main", Revert: "push"}, c.Deploy.ArgoCD); diff != "" {
		t.Errorf("argocd (-want +got):\n%s", diff)
	}
	if c.Deploy.Local != (Local{}) || c.Deploy.Canary.Steps == nil {
		t.Errorf("local %+v, canary %+v", c.Deploy.Local, c.Deploy.Canary)
	}
}

func TestClusterValuesArrive(t *testing.T) {
	c, err := Parse([]byte(cluster+everything), "sluice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	k := c.Deploy.Kubernetes
	if diff := cmp.Diff(Kubernetes{
		Namespace: "shop", Image: "registry.example.com/other/shop", Replicas: 5, Traffic: "httproute", Gateway: "infra/web",
		Hostnames: []string{"shop.example.com", "*.example.org"}, Header: "x-env:  canary", Port: 8000, Ready: Duration(time.Minute),
		Resources: Resources{CPU: "1.5", Memory: "1Gi"}, PullSecret: "registry", HookMemory: "1Gi",
		Ledger: Ledger{Etcd: []string{"https://etcd.example.com:2379", "http://127.0.0.1:2379"}, Secret: "etcd"}, Probe: Probe{Namespace: "probes", Port: 1234, Grace: Duration(2 * time.Second)},
	}, k); diff != "" {
		t.Errorf("kubernetes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(ArgoCD{
		Namespace: "gitops", Project: "web", Repository: "git@git.example.com:team/shop.git", Path: "deploy/shop", Revision: "1.*", Revert: "branch", Secret: "shop-git",
	}, c.Deploy.ArgoCD); diff != "" {
		t.Errorf("argocd (-want +got):\n%s", diff)
	}
	if name, value := k.HeaderMatch(); name != "x-env" || value != "canary" {
		t.Errorf("HeaderMatch() = %q, %q", name, value)
	}
	if namespace, name := k.GatewayName(); namespace != "infra" || name != "web" {
		t.Errorf("GatewayName() = %q, %q", namespace, name)
	}
}

func TestTheTargetLocalFillsNothingOfACluster(t *testing.T) {
	c, err := Parse([]byte(minimal), "sluice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Kubernetes{}, c.Deploy.Kubernetes); diff != "" {
		t.Error(diff)
	}
}

func TestClusterProblems(t *testing.T) {
	git := "  argocd: {repository: 'https://git.example.com/a.git', path: a, "
	for name, tt := range map[string]struct{ text, want string }{
		"a route without gateway":         {"  kubernetes: {traffic: httproute}\n", "7: deploy.kubernetes.gateway: is missing: an HTTPRoute belongs to a Gateway (for example infra/web)"},
		"a gateway without namespace":     {"  kubernetes: {traffic: httproute, gateway: web}\n", `7: deploy.kubernetes.gateway: "web" is not namespace/name (write infra/web)`},
		"what belongs to a route without": {"  kubernetes:\n    gateway: a/b\n    header: 'a: b'\n", "8: deploy.kubernetes.gateway: is given, but there is no route: traffic is replicas (write traffic: httproute)\n9: deploy.kubernetes.header: is given, but there is no route: traffic is replicas (write traffic: httproute)"},
		"a header without value":          {"  kubernetes: {traffic: httproute, gateway: a/b, header: x-env}\n", `7: deploy.kubernetes.header: "x-env" is not a header with its value (write "x-env: canary")`},
		"a URL for a host name":           {"  kubernetes: {traffic: httproute, gateway: a/b, hostnames: ['https://a.example']}\n", `7: deploy.kubernetes.hostnames[0]: "https://a.example" is not a host name (write shop.example.com or *.example.com)`},
		"a way that does not exist":       {"  kubernetes: {traffic: httproutes, header: 'a: b'}\n", `7: deploy.kubernetes.traffic: "httproutes" is not one of replicas, httproute (did you mean httproute?)`},
		"an image with a tag":             {"  kubernetes: {image: 'a.example/b:v1'}\n", `7: deploy.kubernetes.image: "a.example/b:v1" is not host/repository without tag (write registry.example.com/team/hello)`},
		"a namespace with a capital":      {"  kubernetes: {namespace: Shop}\n", `7: deploy.kubernetes.namespace: "Shop" is not the name of a namespace: a-z, 0-9 and "-"`},
		"resources in wrong units":        {"  kubernetes: {resources: {cpu: 1Gi, memory: 64 MB}}\n", "7: deploy.kubernetes.resources.cpu: \"1Gi\" is not an amount of processor time (write 100m or 0.5)\n7: deploy.kubernetes.resources.memory: \"64 MB\" is not an amount in the notation of Kubernetes (write 100m, 0.5, 64Mi or 1Gi)"},
		"thousandths of a byte":           {"  kubernetes: {resources: {memory: 100m}}\n", `7: deploy.kubernetes.resources.memory: "100m" is not an amount of memory (write 64Mi or 1Gi)`},
		"a pull secret by its path":       {"  kubernetes: {pull_secret: shop/registry}\n", `7: deploy.kubernetes.pull_secret: "shop/registry" is not the name of an object: a-z, 0-9 and "-"`},
		"memory for hooks in wrong units": {"  kubernetes: {hook_memory: 100m}\n", `7: deploy.kubernetes.hook_memory: "100m" is not an amount of memory (write 256Mi or 1Gi)`},
		"an etcd without TLS elsewhere":   {"  kubernetes: {ledger: {etcd: ['http://etcd:2379']}}\n", `7: deploy.kubernetes.ledger.etcd[0]: "http://etcd:2379" is not an endpoint of etcd (write https://etcd.example.com:2379)`},
		"a password in an endpoint":       {"  kubernetes: {ledger: {etcd: ['https://a:b@etcd:2379']}}\n", `7: deploy.kubernetes.ledger.etcd[0]: "https://a:b@etcd:2379" is not an endpoint of etcd (write https://etcd.example.com:2379)`},
		"a secret for no etcd":            {"  kubernetes: {ledger: {secret: etcd}}\n", `7: deploy.kubernetes.ledger.secret: is given, but there is no etcd to show it to (write etcd: [https://etcd.example.com:2379])`},
		"no pod":                          {"  kubernetes: {replicas: 0}\n", "7: deploy.kubernetes.replicas: 0 is less than 1"},
		"no time after getting ready":     {"  kubernetes: {ready: 5m}\n", "7: deploy.kubernetes.ready: 5m to get ready leave nothing of deploy.canary.deadline (5m)"},
		"a deadline before the steps end": {"  canary: {deadline: 10s}\n", "7: deploy.canary.deadline: 10s is over before warmup and the steps' min are (12s in all)"},
		"a probe in a wrong namespace":    {"  kubernetes: {probe: {namespace: a/b}}\n", `7: deploy.kubernetes.probe.namespace: "a/b" is not the name of a namespace: a-z, 0-9 and "-"`},
		"no repository":                   {"  argocd: {path: a}\n", "7: deploy.argocd.repository: is missing (for example https://git.example.com/team/hello.git)"},
		"a password in the repository":    {"  argocd: {repository: 'https://me:secret@git.example.com/a', path: a}\n", "7: deploy.argocd.repository: has credentials in it: put them in a Secret and name that as secret"},
		"a folder for a repository":       {"  argocd: {repository: ../shop, path: a}\n", `7: deploy.argocd.repository: "../shop" is not the address of a git repository (write https://git.example.com/team/hello.git)`},
		"an address of another kind":      {"  argocd: {repository: 'ftp://git.example.com/a', path: a}\n", `7: deploy.argocd.repository: "ftp://git.example.com/a" is neither https, http nor ssh`},
		"a path out of the repository":    {"  argocd: {repository: 'https://git.example.com/a', path: a/../../b}\n", `7: deploy.argocd.path: "a/../../b" is not a folder of the repository (write deploy/hello)`},
		"a partial version":               {git + "revision: v1.2}\n", `7: deploy.argocd.revision: "v1.2" is neither a whole version nor a constraint, and Argo CD would look for a branch or tag of just this name (write 1.2.* for the newest of them, or a tag such as v1.2.3)`},
		"a blank before the revision":     {git + "revision: ' main'}\n", `7: deploy.argocd.revision: " main" is not a branch, a tag or a constraint (write main, v1.2.3 or 1.*)`},
		"a revert of a fixed version":     {git + "revision: v1.2.3}\n", "7: deploy.argocd.revert: push: v1.2.3 is one fixed version, so a revert commit would change nothing (write a branch or a constraint such as 1.* for the revision, or revert: off)"},
		"a secret for nothing":            {git + "secret: a, revert: 'off'}\n", "7: deploy.argocd.secret: is given, but revert is off: nothing would use it"},
		"a secret of no name":             {git + "secret: a/b}\n", `7: deploy.argocd.secret: "a/b" is not the name of an object: a-z, 0-9 and "-"`},
	} {
		t.Run(name, func(t *testing.T) { wantProblems(t, cluster+tt.text, tt.want) })
	}
}

func TestRevisionsThatAreRight(t *testing.T) {
	for _, revision := range []string{"main", "HEAD", "release/v1.2", "1.*", "1.2.*", ">=1.0.0 <2.0.0", "^1.2", "~1.2", "v1.x", "*"} {
		if _, err := Parse([]byte(cluster+"  argocd: {repository: 'ssh://git@git.example.com/a', path: a, revision: '"+revision+"'}\n"), "f"); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatAClusterNeedsOfTheOtherSections(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"no port":            {strings.Replace(cluster, "service: {port: 8080}\n", "", 1), "1: service.port: is missing: the target kubernetes has to know the port of the container (for example 8080)"},
		"no registry":        {strings.Replace(cluster, "publish: {registry: registry.example.com/team/hello}\n", "", 1), "4: deploy.kubernetes.image: is missing, and so is publish.registry: nodes pull the image from a registry (for example registry.example.com/team/hello)"},
		"a number as a name": {strings.Replace(cluster, "name: hello", "name: 1a", 1), `1: name: "1a" cannot name a Service of Kubernetes and its Jobs: it has to begin with a letter and have at most 50 characters`},
		"a name too long":    {strings.Replace(cluster, "name: hello", "name: "+strings.Repeat("a", 51), 1), `1: name: "` + strings.Repeat("a", 51) + `" cannot name a Service of Kubernetes and its Jobs: it has to begin with a letter and have at most 50 characters`},
		"none for a node":    {strings.Replace(cluster, "./cmd/hello}", "./cmd/hello, platforms: [darwin/arm64]}", 1), "2: build.platforms: has no linux/… platform, but nodes run Linux"},
		"settings beside the target local": {
			minimal + "  kubernetes: {traffic: httproute, image: a.example/b}\n",
			"1: service.port: is missing: the target kubernetes has to know the port of the container (for example 8080)\n5: deploy.kubernetes.gateway: is missing: an HTTPRoute belongs to a Gateway (for example infra/web)",
		},
	} {
		t.Run(name, func(t *testing.T) { wantProblems(t, tt.text, tt.want) })
	}
}
