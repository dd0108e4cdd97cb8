package render

import (
	"github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// inCluster is the cluster that Argo CD itself runs in.
const inCluster = "https://kubernetes.default.svc"

// project allows the application the kinds that base consists of, and no others:
// no right, nothing cluster-wide and none of the ConfigMaps that hooks go by can
// come in by a commit.
func (s *service) project() v1alpha1.AppProject {
	m := s.meta(s.a.Project, "")
	m.Namespace = s.a.Namespace
	return v1alpha1.AppProject{
		TypeMeta: kind("argoproj.io/v1alpha1", "AppProject"), ObjectMeta: m,
		Spec: v1alpha1.AppProjectSpec{
			Description:                "Releases of " + s.name + ", gated by Sluice",
			SourceRepos:                []string{s.a.Repository},
			Destinations:               []v1alpha1.ApplicationDestination{{Server: inCluster, Namespace: s.k.Namespace}},
			ClusterResourceWhitelist:   []metav1.GroupKind{},
			NamespaceResourceWhitelist: s.kinds(),
		},
	}
}

// kinds are those of base.
func (s *service) kinds() []metav1.GroupKind {
	kinds := []metav1.GroupKind{
		{Group: "", Kind: "Service"},
		{Group: "apps", Kind: "Deployment"},
		{Group: "batch", Kind: "Job"},
		{Group: "policy", Kind: "PodDisruptionBudget"},
	}
	if s.route() {
		kinds = append(kinds, metav1.GroupKind{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute"})
	}
	return kinds
}

// application is the service in Argo CD. Its type would leave out a limit of 0,
// which is said aloud here.
func (s *service) application() map[string]any {
	m := s.meta(s.name, "")
	m.Namespace = s.a.Namespace
	ignored := v1alpha1.IgnoreDifferences{{
		Group: "apps", Kind: "Deployment", Namespace: s.k.Namespace, Name: s.name + "-" + canary,
		JSONPointers: []string{"/spec/replicas"},
	}}
	options := v1alpha1.SyncOptions{"RespectIgnoreDifferences=true"}
	if s.route() {
		ignored = append(ignored, v1alpha1.ResourceIgnoreDifferences{
			Group: "gateway.networking.k8s.io", Kind: "HTTPRoute", Namespace: s.k.Namespace, Name: s.name,
			JQPathExpressions: []string{".spec.rules[].backendRefs[].weight"},
		})
		options = nil
	}
	app := v1alpha1.Application{
		TypeMeta: kind("argoproj.io/v1alpha1", "Application"), ObjectMeta: m,
		Spec: v1alpha1.ApplicationSpec{
			Project:           s.a.Project,
			Source:            &v1alpha1.ApplicationSource{RepoURL: s.a.Repository, Path: s.a.Path, TargetRevision: s.a.Revision},
			Destination:       v1alpha1.ApplicationDestination{Server: inCluster, Namespace: s.k.Namespace},
			IgnoreDifferences: ignored,
			SyncPolicy: &v1alpha1.SyncPolicy{
				Automated:   &v1alpha1.SyncPolicyAutomated{Prune: true, SelfHeal: true},
				SyncOptions: options,
			},
		},
	}
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&app)
	if err == nil {
		err = unstructured.SetNestedField(tree, int64(0), "spec", "syncPolicy", "retry", "limit")
	}
	if err != nil {
		panic(err) // the type is Kubernetes' own
	}
	return tree
}

// applicationComment gives the reasons for what is unusual in the application.
func (s *service) applicationComment() string {
	text := `A failed release is not tried again (retry.limit 0): its verdict stands, and the
next commit is what changes something. What the hooks move is ignored: the pods of the canary`
	if !s.route() {
		return text + "."
	}
	return text + ` and
the weights of the route. A sync does set both to what git says, which is where every release
begins. (RespectIgnoreDifferences would keep them, but also every other change to the rules of
the route out of the cluster: Argo CD keeps whole lists.)`
}
