package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// application is an Application of Argo CD as it is at one moment.
type application struct {
	Sync, Health string
	Revision     string // that the live objects were compared with
	Phase        string // of the last operation: Running, Succeeded, Failed, Error
	Operated     string // revision of the last operation
	Message      string // of the last operation
	Finished     time.Time
	Verdict      string // annotation of ours
	Reason       string
	Conditions   []string // type: message
	Results      []string // of the last operation, for each object that is not in order: kind name: message
}

func parseApplication(u *unstructured.Unstructured) application {
	a := application{
		Sync: text(u, "status", "sync", "status"), Health: text(u, "status", "health", "status"), Revision: text(u, "status", "sync", "revision"),
		Phase: text(u, "status", "operationState", "phase"), Message: text(u, "status", "operationState", "message"),
		Operated: text(u, "status", "operationState", "syncResult", "revision"),
		Verdict:  u.GetAnnotations()["sluice.dev/verdict"], Reason: u.GetAnnotations()["sluice.dev/reason"],
	}
	a.Finished, _ = time.Parse(time.RFC3339, text(u, "status", "operationState", "finishedAt"))
	for _, c := range slice(u, "status", "conditions") {
		a.Conditions = append(a.Conditions, fmt.Sprintf("%v: %v", c["type"], c["message"]))
	}
	for _, o := range slice(u, "status", "operationState", "syncResult", "resources") {
		if o["status"] != "Synced" && o["message"] != nil {
			a.Results = append(a.Results, fmt.Sprintf("%v %v: %v", o["kind"], o["name"], o["message"]))
		}
	}
	return a
}

// done reports whether the operation for a revision has ended.
func (a application) done(revision string) bool {
	return a.Operated == revision && a.Phase != "Running" && a.Phase != ""
}

// settled reports whether all is as it is in git at a revision.
func (a application) settled(revision string) bool {
	return a.Sync == "Synced" && a.Health == "Healthy" && a.Revision == revision && a.Phase != "Running"
}

func (a application) String() string {
	return fmt.Sprintf("sync %s, health %s, at %.8s; operation %s at %.8s: %.300s; verdict %s: %.200s; %s; %.300s",
		a.Sync, a.Health, a.Revision, a.Phase, a.Operated, a.Message, a.Verdict, a.Reason, strings.Join(a.Conditions, "; "), strings.Join(a.Results, "; "))
}

// says looks for a text in everything that the Application tells a person.
func (a application) says(want string) bool {
	words := slices.Concat(a.Conditions, a.Results, []string{a.Message, a.Reason})
	return strings.Contains(strings.ToLower(strings.Join(words, "\n")), strings.ToLower(want))
}

// argoSays looks for a text in what Argo CD says itself of a revision: Sluice's
// words may be about one before.
func (a application) argoSays(want, revision string) bool {
	var words []string
	for _, c := range a.Conditions {
		if !strings.HasPrefix(c, "Sluice") && a.Revision == revision {
			words = append(words, c)
		}
	}
	if a.done(revision) {
		words = append(append(words, a.Message), a.Results...)
	}
	return strings.Contains(strings.ToLower(strings.Join(words, "\n")), strings.ToLower(want))
}

// argoNamespace is where Argo CD and all Applications are.
const argoNamespace = "argocd"

func (k *kube) application(ctx context.Context, name string) (application, error) {
	u, err := k.need(ctx, kindApplication, argoNamespace, name)
	if err != nil {
		return application{}, err
	}
	return parseApplication(u), nil
}

// refresh makes Argo CD look at git now, as a webhook of the git server would.
func (k *kube) refresh(ctx context.Context, name string) error {
	return k.patch(ctx, kindApplication, argoNamespace, name, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{"argocd.argoproj.io/refresh": "normal"}},
	})
}
