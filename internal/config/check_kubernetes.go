package config

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
)

var (
	serviceForm  = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$`)
	objectForm   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
	hostForm     = regexp.MustCompile(`^(\*\.)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+$`)
	headerForm   = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+: *[^\\s:][^\r\n]*$")
	cpuForm      = regexp.MustCompile(`^([0-9]+m|[0-9]+(\.[0-9]{1,3})?)$`)
	memoryForm   = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$`)
	etcdForm     = regexp.MustCompile(`^(https://[^\s/?#@]+|http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?)$`)
	scpForm      = regexp.MustCompile(`^[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:[^/\s]\S*$`)
	partialForm  = regexp.MustCompile(`^[vV]?[0-9]+(\.[0-9]+)?$`)
	fixedForm    = regexp.MustCompile(`^([vV]?[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?|[0-9a-f]{40})$`)
	revisionForm = regexp.MustCompile(`^[^\s~:?\[\\][^~:?\[\\]*$`)
)

// checkKubernetes finds what is wrong with the target kubernetes, also while the target is another one.
func (c *Config) checkKubernetes(fault faultFunc, p *problems) {
	if !c.onKubernetes() || !p.fine("deploy.kubernetes") {
		return
	}
	const at = "deploy.kubernetes"
	k := &c.Deploy.Kubernetes
	fault(p.fine("name") && !serviceForm.MatchString(c.Name), "name", "%q cannot name a Service of Kubernetes and its Jobs: it has to begin with a letter and have at most 50 characters", c.Name)
	fault(c.Service.Port == 0 && p.fine("service.port"), "service.port", "is missing: the target kubernetes has to know the port of the container (for example 8080)")
	fault(!nameForm.MatchString(k.Namespace) && p.fine("name"), at+".namespace", "%q is not the name of a namespace: a-z, 0-9 and \"-\"", k.Namespace)
	fault(!nameForm.MatchString(k.Probe.Namespace), at+".probe.namespace", "%q is not the name of a namespace: a-z, 0-9 and \"-\"", k.Probe.Namespace)
	fault(k.Image == "" && p.fine("publish.registry"), at+".image", "is missing, and so is publish.registry: nodes pull the image from a registry (for example registry.example.com/team/%s)", cmpName(c.Name))
	fault(k.Image != "" && p.fine("publish.registry") && !registryForm.MatchString(k.Image), at+".image", "%q is not host/repository without tag (write registry.example.com/team/%s)", k.Image, cmpName(c.Name))
	fault(!cpuForm.MatchString(string(k.Resources.CPU)), at+".resources.cpu", "%q is not an amount of processor time (write 100m or 0.5)", k.Resources.CPU)
	fault(!memoryForm.MatchString(string(k.Resources.Memory)), at+".resources.memory", "%q is not an amount of memory (write 64Mi or 1Gi)", k.Resources.Memory)
	fault(!memoryForm.MatchString(string(k.HookMemory)), at+".hook_memory", "%q is not an amount of memory (write 256Mi or 1Gi)", k.HookMemory)
	for name, secret := range map[string]string{"pull_secret": k.PullSecret, "ledger.secret": k.Ledger.Secret} {
		fault(c.has(at+"."+name) && !objectForm.MatchString(secret), at+"."+name, "%q is not the name of an object: a-z, 0-9 and \"-\"", secret)
	}
	for i, endpoint := range k.Ledger.Etcd {
		fault(!etcdForm.MatchString(endpoint), fmt.Sprintf("%s.ledger.etcd[%d]", at, i), "%q is not an endpoint of etcd (write https://etcd.example.com:2379)", endpoint)
	}
	fault(k.Ledger.Secret != "" && len(k.Ledger.Etcd) == 0, at+".ledger.secret", "is given, but there is no etcd to show it to (write etcd: [https://etcd.example.com:2379])")
	deadline := c.Deploy.Canary.Deadline
	fault(c.has(at+".ready") && p.fine("deploy.canary.deadline") && k.Ready >= deadline,
		at+".ready", "%v to get ready leave nothing of deploy.canary.deadline (%v)", k.Ready, deadline)
	if p.fine(at + ".traffic") {
		c.checkRoute(fault)
	}
}

// checkRoute finds what is wrong with the HTTPRoute, or that there is none to which a setting could apply.
func (c *Config) checkRoute(fault faultFunc) {
	const at = "deploy.kubernetes"
	k := &c.Deploy.Kubernetes
	if k.Traffic != "httproute" {
		for _, name := range []string{"gateway", "hostnames", "header"} {
			fault(c.has(at+"."+name), at+"."+name, "is given, but there is no route: traffic is %s (write traffic: httproute)", k.Traffic)
		}
		return
	}
	namespace, name := k.GatewayName()
	fault(k.Gateway == "" && !c.has(at+".gateway"), at+".gateway", "is missing: an HTTPRoute belongs to a Gateway (for example infra/web)")
	fault(!nameForm.MatchString(namespace) || !objectForm.MatchString(name), at+".gateway", "%q is not namespace/name (write infra/web)", k.Gateway)
	for i, host := range k.Hostnames {
		fault(!hostForm.MatchString(host), fmt.Sprintf("%s.hostnames[%d]", at, i), "%q is not a host name (write shop.example.com or *.example.com)", host)
	}
	fault(c.has(at+".header") && !headerForm.MatchString(k.Header), at+".header", "%q is not a header with its value (write \"x-env: canary\")", k.Header)
}

func (c *Config) checkArgoCD(fault faultFunc, p *problems) {
	const at = "deploy.argocd"
	a := &c.Deploy.ArgoCD
	if !c.has(at) || !p.fine(at) {
		return
	}
	for name, value := range map[string]string{"namespace": a.Namespace, "project": a.Project, "secret": a.Secret} {
		form, what := objectForm, "an object"
		if name == "namespace" {
			form, what = nameForm, "a namespace"
		}
		fault((c.has(at+"."+name) || value != "" && p.fine("name")) && !form.MatchString(value), at+"."+name, "%q is not the name of %s: a-z, 0-9 and \"-\"", value, what)
	}
	if p.fine(at + ".repository") {
		problem := repositoryProblem(a.Repository)
		fault(problem != "", at+".repository", "%s", problem)
	}
	clean := path.Clean(a.Path)
	fault(a.Path == "" || path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsAny(a.Path, "\\ \t\n"),
		at+".path", "%q is not a folder of the repository (write deploy/%s)", a.Path, cmpName(c.Name))
	a.Path = clean
	fault(a.Secret != "" && a.Revert == "off", at+".secret", "is given, but revert is off: nothing would use it")
	c.checkRevision(fault, p)
}

// checkRevision refuses what Argo CD would take for something else than was meant.
func (c *Config) checkRevision(fault faultFunc, p *problems) {
	a := &c.Deploy.ArgoCD
	const at = "deploy.argocd.revision"
	version := strings.TrimLeft(a.Revision, "vV")
	fault(partialForm.MatchString(a.Revision), at, "%q is neither a whole version nor a constraint, and Argo CD would look for a branch or tag of just this name (write %s.* for the newest of them, or a tag such as v1.2.3)", a.Revision, version)
	fault(!revisionForm.MatchString(a.Revision) && !strings.HasPrefix(a.Revision, "~"), at, "%q is not a branch, a tag or a constraint (write main, v1.2.3 or 1.*)", a.Revision)
	fault(fixedForm.MatchString(a.Revision) && a.Revert != "off" && p.fine("deploy.argocd.revert"), "deploy.argocd.revert",
		"%s: %s is one fixed version, so a revert commit would change nothing (write a branch or a constraint such as 1.* for the revision, or revert: off)", a.Revert, a.Revision)
}

// repositoryProblem says what is wrong with the address of a git repository.
func repositoryProblem(address string) string {
	if scpForm.MatchString(address) {
		return ""
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Path == "" || u.Path == "/" || strings.ContainsAny(address, " \t\n"):
		return fmt.Sprintf("%q is not the address of a git repository (write https://git.example.com/team/hello.git)", address)
	case u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "ssh":
		return fmt.Sprintf("%q is neither https, http nor ssh", address)
	}
	if _, password := u.User.Password(); password || u.User != nil && u.Scheme != "ssh" {
		return "has credentials in it: put them in a Secret and name that as secret"
	}
	return ""
}
