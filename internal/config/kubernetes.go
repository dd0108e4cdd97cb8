package config

import "strings"

// Kubernetes holds the settings of the target kubernetes.
type Kubernetes struct {
	// Namespace of the service. Left out: the name of the service.
	Namespace string `json:"namespace,omitempty"`
	// Registry and repository from which nodes pull the image, for example registry.example.com/team/hello. Left out: publish.registry.
	Image string `json:"image,omitempty"`
	// Pods of the stable version.
	Replicas int `json:"replicas" default:"3" min:"1" max:"1000"`
	// How a share of the traffic gets to the new version. "replicas": by the number of its pods behind one Service. "httproute": by the weights of a Gateway API HTTPRoute.
	Traffic string `json:"traffic" default:"replicas" enum:"replicas,httproute"`
	// The Gateway that the HTTPRoute belongs to, as namespace/name. Needed with traffic: httproute.
	Gateway string `json:"gateway,omitempty"`
	// Host names of the HTTPRoute. Left out: those of the Gateway.
	Hostnames []string `json:"hostnames,omitempty"`
	// Requests with this header go to the new version before the first weight does, for example "x-env: canary". With traffic: httproute only.
	Header string `json:"header,omitempty"`
	// Port of the Service; that of the container is service.port.
	Port int `json:"port" default:"80" min:"1" max:"65535"`
	// How long the pods of the new version may take to get ready, pulling the image included.
	Ready Duration `json:"ready" default:"2m" min:"1s" max:"1h"`
	// What a pod needs.
	Resources Resources `json:"resources"`
	// Secret (kubernetes.io/dockerconfigjson) in the namespace of the service, with which nodes pull images and hooks read what is signed about them. Left out: the registry lets everybody read.
	PullSecret string `json:"pull_secret,omitempty"`
	// Memory that a hook may not exceed. More for many nodes (a gate reads all of them each second) or a big git repository.
	HookMemory Quantity `json:"hook_memory" default:"256Mi"`
	// Where the history of rollouts is kept.
	Ledger Ledger `json:"ledger"`
	// The daemons that measure both versions.
	Probe Probe `json:"probe"`
}

// Ledger says where the history of rollouts is kept.
type Ledger struct {
	// Endpoints of an etcd for the history, for example https://etcd.example.com:2379. Left out: the ConfigMap NAME-ledger, which forgets the oldest rollouts when it is full.
	Etcd []string `json:"etcd,omitempty"`
	// Secret in the namespace of the service for etcd: ca.crt, and tls.crt with tls.key where etcd asks who we are. Left out: whom the image of the hooks trusts.
	Secret string `json:"secret,omitempty"`
}

// Resources is what a pod needs, in the notation of Kubernetes.
type Resources struct {
	// Processor time that a pod is promised, for example 100m or 2. There is no limit: a throttled pod would be measured, not the release.
	CPU Quantity `json:"cpu" default:"100m"`
	// Memory that a pod is promised and may not exceed, for example 64Mi.
	Memory Quantity `json:"memory" default:"64Mi"`
}

// Probe says where the daemons of the nodes are.
type Probe struct {
	// Namespace of the DaemonSet sluice-probe.
	Namespace string `json:"namespace" default:"sluice-system"`
	// Port at which every daemon answers.
	Port int `json:"port" default:"9640" min:"1" max:"65535"`
	// How long a daemon may be silent before the measurement counts as broken.
	Grace Duration `json:"grace" default:"10s" min:"1s" max:"10m"`
}

// ArgoCD names the application of a service in Argo CD.
type ArgoCD struct {
	// Namespace of Argo CD and of the Application.
	Namespace string `json:"namespace" default:"argocd"`
	// AppProject of the Application. Left out: the name of the service.
	Project string `json:"project,omitempty"`
	// Git repository with the manifests. Credentials do not belong here.
	Repository string `json:"repository" required:"https://git.example.com/team/hello.git"`
	// Folder of the manifests in the repository.
	Path string `json:"path" required:"deploy/hello"`
	// What is deployed: a branch, a tag with a whole version (v1.2.3), or a constraint on such tags (1.*).
	Revision string `json:"revision" default:"main"`
	// What becomes of git when a release fails. "push": a revert commit on the branch. "branch": a revert commit on a branch of its own, for somebody to merge. "off": nothing.
	Revert string `json:"revert" default:"push" enum:"push,branch,off"`
	// Secret in the namespace of the service with username and password for the revert commit. Left out: the repository takes it without.
	Secret string `json:"secret,omitempty"`
}

// HeaderMatch returns the name and the value of the header that leads to the new version, or two empty strings.
func (k Kubernetes) HeaderMatch() (name, value string) {
	name, value, _ = strings.Cut(k.Header, ":")
	return strings.TrimSpace(name), strings.TrimSpace(value)
}

// GatewayName returns the namespace and the name of the Gateway, or two empty strings.
func (k Kubernetes) GatewayName() (namespace, name string) {
	namespace, name, _ = strings.Cut(k.Gateway, "/")
	return namespace, name
}

// fillKubernetes sets the defaults that are the values of other fields.
func (c *Config) fillKubernetes() {
	k, a := &c.Deploy.Kubernetes, &c.Deploy.ArgoCD
	for _, d := range []struct {
		path        string
		field, from *string
		used        bool
	}{
		{"deploy.kubernetes.namespace", &k.Namespace, &c.Name, c.onKubernetes()},
		{"deploy.kubernetes.image", &k.Image, &c.Publish.Registry, c.onKubernetes()},
		{"deploy.argocd.project", &a.Project, &c.Name, c.has("deploy.argocd")},
	} {
		if d.used && !c.has(d.path) {
			*d.field = *d.from
		}
	}
}

// onKubernetes reports whether the settings of the target kubernetes mean something: it is the target, or they are given.
func (c *Config) onKubernetes() bool {
	return c.Deploy.Target == "kubernetes" || c.has("deploy.kubernetes")
}

// has reports whether a field is in the file.
func (c *Config) has(path string) bool {
	_, given := c.position[path]
	return given
}
