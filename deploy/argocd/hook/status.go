package hook

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/deploy/k8s"
	"github.com/sluice-cd/sluice/internal/release"
)

// Status is what an operator wants to know of a service.
type Status struct {
	Service   string           `json:"service"`
	Namespace string           `json:"namespace"`
	Stable    Track            `json:"stable"`
	Canary    Track            `json:"canary"`
	Serves    *release.Record  `json:"serves,omitempty"` // by which record, as the ledger has it
	Running   *release.Rollout `json:"running,omitempty"`
	Sync      string           `json:"sync,omitempty"`   // as Argo CD sees it
	Health    string           `json:"health,omitempty"` // as Argo CD sees it
	Revision  string           `json:"revision,omitempty"`
	Verdict   string           `json:"verdict,omitempty"` // the last one on the Application
	Reason    string           `json:"reason,omitempty"`
	Last      []release.Record `json:"last,omitempty"` // the newest rollouts, newest first
}

// Track is one of the two Deployments.
type Track struct {
	Image string `json:"image"`
	Pods  int    `json:"pods"`
	Ready int    `json:"ready"`
}

// lastShown is how many rollouts a Status has.
const lastShown = 5

// Look reads the status of a service. An Application that cannot be read leaves
// its part empty.
func Look(ctx context.Context, s Settings, cfg *rest.Config) (Status, error) {
	h, err := newHook("status", s, cfg, io.Discard)
	if err != nil {
		return Status{}, err
	}
	st := Status{Service: h.service(), Namespace: h.namespace()}
	for name, into := range map[string]*Track{"stable": &st.Stable, "canary": &st.Canary} {
		d, err := h.deployment(ctx, name)
		if err != nil {
			return st, err
		}
		into.Image, into.Pods, into.Ready = k8s.Image(d, h.service()), int(d.Status.Replicas), int(d.Status.ReadyReplicas)
	}
	if err := h.readApplication(ctx); err == nil {
		st.Sync, st.Health = string(h.app.Status.Sync.Status), string(h.app.Status.Health.Status)
		st.Revision = h.app.Status.Sync.Revision
		st.Verdict, st.Reason = h.app.Annotations[NoteVerdict], h.app.Annotations[NoteReason]
	}
	ledger, err := s.Ledger(ctx, cfg)
	if err != nil {
		return st, err
	}
	records, err := ledger.Records(ctx)
	if err != nil {
		return st, err
	}
	if r, ok := release.Running(records); ok {
		st.Serves = &r
	}
	if open := release.Unfinished(records); len(open) > 0 {
		st.Running = &open[len(open)-1]
	}
	for i := len(records) - 1; i >= 0 && len(st.Last) < lastShown; i-- {
		st.Last = append(st.Last, records[i])
	}
	return st, nil
}

// Text is the status for a person.
func (s Status) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s in %s\n", s.Service, s.Namespace)
	fmt.Fprintf(&b, "  stable  %s  %d of %d pods ready\n", s.Stable.Image, s.Stable.Ready, s.Stable.Pods)
	fmt.Fprintf(&b, "  canary  %s  %d of %d pods ready\n", s.Canary.Image, s.Canary.Ready, s.Canary.Pods)
	if s.Sync != "" {
		fmt.Fprintf(&b, "  Argo CD  %s, %s at %.12s\n", s.Sync, s.Health, s.Revision)
	}
	if s.Running != nil {
		fmt.Fprintf(&b, "  on its way  rollout %d: %s, since %s\n", s.Running.ID, s.Running.Version, s.Running.Started.Format("15:04:05"))
	}
	if s.Verdict != "" {
		fmt.Fprintf(&b, "  last verdict  %s: %s\n", s.Verdict, s.Reason)
	}
	for _, r := range s.Last {
		fmt.Fprintf(&b, "  %4d  %-12s  %-11s %-12s %s  %s\n", r.ID, r.Version, cmp.Or(string(r.Outcome), "running"), r.Verdict, r.Started.Format("2006-01-02 15:04:05"), r.Reason)
	}
	return b.String()
}
