package cluster

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"os/exec"
)

// argoObjects are what Argo CD reads its settings from. Git is looked at every
// ten seconds, which is as often as it allows to be told.
const argoObjects = `
apiVersion: v1
kind: Namespace
metadata: {name: argocd}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: argocd-cm, namespace: argocd, labels: {app.kubernetes.io/part-of: argocd, app.kubernetes.io/name: argocd-cm}}
data: {timeout.reconciliation: 10s, timeout.reconciliation.jitter: 0s}
---
apiVersion: v1
kind: Secret
metadata: {name: argocd-secret, namespace: argocd, labels: {app.kubernetes.io/part-of: argocd, app.kubernetes.io/name: argocd-secret}}
stringData: {server.secretkey: SECRET}
---
apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: default, namespace: argocd}
spec:
  clusterResourceWhitelist: [{group: '*', kind: '*'}]
  destinations: [{namespace: '*', server: '*'}]
  sourceRepos: ['*']
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: argocd-application-controller, labels: {app.kubernetes.io/part-of: argocd, app.kubernetes.io/name: argocd-application-controller}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: argocd-application-controller, namespace: argocd}]
---
`

// argoAccount is what Argo CD is for the API server: policies tell it from people
// by its groups.
var argoAccount = []string{
	"system:serviceaccount:argocd:argocd-application-controller", "system:serviceaccounts", "system:serviceaccounts:argocd", "system:authenticated",
}

// argoSettings are settings that stay empty, but must be there.
var argoSettings = []string{"argocd-rbac-cm", "argocd-cmd-params-cm", "argocd-tls-certs-cm", "argocd-ssh-known-hosts-cm", "argocd-gpg-keys-cm"}

// argoCD starts Redis, the repository server and the application controller as
// processes of the host.
func (s *supervisor) argoCD(ctx context.Context) error {
	documents := []string{replace(argoObjects, "SECRET", rand.Text())}
	for _, name := range argoSettings {
		documents = append(documents, fmt.Sprintf(
			"{apiVersion: v1, kind: ConfigMap, metadata: {name: %s, namespace: argocd, labels: {app.kubernetes.io/part-of: argocd, app.kubernetes.io/name: %[1]s}}}", name))
	}
	if err := Apply(ctx, s.admin, "", documents...); err != nil {
		return err
	}
	for _, dir := range []string{"tls", "ssh", "gpg/keys", "gpg/source", "plugins", "tmp", "home"} {
		if err := os.MkdirAll(s.path("argocd", dir), 0o755); err != nil {
			return fmt.Errorf("starting Argo CD: %w", err)
		}
	}
	if err := os.WriteFile(s.path("argocd", "ssh", "ssh_known_hosts"), nil, 0o644); err != nil {
		return fmt.Errorf("starting Argo CD: %w", err)
	}
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("starting Argo CD: %w", err)
	}
	kubeconfig, _, err := s.authority.kubeconfig("argocd", s.server.url(), argoAccount[0], argoAccount[1:]...)
	if err != nil {
		return err
	}
	const cache, manifests = "127.0.0.1:6379", "127.0.0.1:8081"
	programs := []program{
		{name: "redis", path: redis, args: []string{"--port", "6379", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.path("argocd", "tmp")}},
		{name: "argocd-repo-server", path: s.path("bin", "argocd-repo-server"), args: []string{
			"--port", "8081", "--address", "127.0.0.1", "--metrics-address", "127.0.0.1", "--redis", cache, "--disable-tls", "--revision-cache-expiration", "10s",
		}},
		{name: "argocd-application-controller", path: s.path("bin", "argocd-application-controller"), args: []string{
			"--namespace", "argocd", "--redis", cache, "--repo-server", manifests, "--repo-server-plaintext", "--app-resync", "10", "--app-resync-jitter", "0",
		}},
	}
	ready := []string{"", "http://127.0.0.1:8084/healthz", "http://127.0.0.1:8082/healthz"}
	for i, p := range programs {
		p.logs, p.env = s.logs(), s.argoEnvironment(kubeconfig)
		process, err := start(p)
		if err != nil {
			return err
		}
		s.mind(process)
		if ready[i] == "" {
			continue
		}
		if err := process.ready(ctx, answers(http.DefaultClient, ready[i])); err != nil {
			return err
		}
	}
	s.say("Argo CD is ready")
	return nil
}

// argoEnvironment makes Argo CD believe that it runs in the cluster, and keeps
// its files in our folder.
func (s *supervisor) argoEnvironment(kubeconfig string) []string {
	p := func(elem string) string { return s.path("argocd", elem) }
	return []string{
		"KUBECONFIG=" + kubeconfig, "ARGOCD_FAKE_IN_CLUSTER=true", "HOSTNAME=argocd-application-controller-0",
		"HOME=" + p("home"), "TMPDIR=" + p("tmp"),
		"ARGOCD_TLS_DATA_PATH=" + p("tls"), "ARGOCD_SSH_DATA_PATH=" + p("ssh"), "ARGOCD_GNUPGHOME=" + p("gpg/keys"),
		"ARGOCD_GPG_DATA_PATH=" + p("gpg/source"), "ARGOCD_GPG_ENABLED=false", "ARGOCD_PLUGINSOCKFILEPATH=" + p("plugins"),
		"ARGOCD_ASK_PASS_SOCK=" + p("ask.sock"), "ARGOCD_K8S_CLIENT_QPS=100",
		"ARGOCD_RECONCILIATION_TIMEOUT=10s", "ARGOCD_RECONCILIATION_JITTER=0",
	}
}
