package argocd

import "time"

// What the hooks write on an application: the verdict of a sync, and a condition
// that says when it was reached.
const (
	noteVerdict = "sluice.dev/verdict"
	noteReason  = "sluice.dev/reason"
	noteRelease = "sluice.dev/release"
	conditioned = "SluiceVerdict"
)

// state is what matters of an application as Argo CD tells it.
type state struct {
	Metadata struct {
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		SyncPolicy struct {
			Automated struct{ Prune bool } `json:"automated"`
		} `json:"syncPolicy"`
	} `json:"spec"`
	Operation *order `json:"operation"` // one that waits or runs
	Status    struct {
		Operation  operation                         `json:"operationState"`
		Conditions []condition                       `json:"conditions"`
		Sync       struct{ Status, Revision string } `json:"sync"`
		Health     struct{ Status, Message string }  `json:"health"`
	} `json:"status"`
}

// order is what an operation was asked to do.
type order struct {
	Sync *struct {
		Revision string `json:"revision"`
	} `json:"sync"`
}

type operation struct {
	Order      order     `json:"operation"`
	Phase      string    `json:"phase"`
	Message    string    `json:"message"`
	StartedAt  time.Time `json:"startedAt"`
	SyncResult struct {
		Revision string `json:"revision"`
	} `json:"syncResult"`
}

type condition struct {
	Type string     `json:"type"`
	At   *time.Time `json:"lastTransitionTime"`
}

func (o operation) ended() bool {
	return o.Phase == "Succeeded" || o.Phase == "Failed" || o.Phase == "Error"
}

// busy reports whether a sync is asked for or under way.
func (s state) busy() bool {
	return s.Operation != nil || s.Status.Operation.Phase != "" && !s.Status.Operation.ended()
}

// same reports whether the sync that is asked for or under way is of a revision.
func (s state) same(revision string) bool {
	if revision == "" {
		return false
	}
	if s.Operation != nil {
		return s.Operation.Sync != nil && s.Operation.Sync.Revision == revision
	}
	op := s.Status.Operation
	return op.Order.Sync != nil && op.Order.Sync.Revision == revision || op.SyncResult.Revision == revision
}

// previous is when the sync began that has ended already; zero if there is none.
func (s state) previous() time.Time {
	if op := s.Status.Operation; op.ended() {
		return op.StartedAt
	}
	return time.Time{}
}

// done reports whether a sync has ended that is not the previous one.
func (s state) done(previous time.Time) bool {
	op := s.Status.Operation
	return s.Operation == nil && op.ended() && !op.StartedAt.Equal(previous)
}

func (s state) describe() string {
	switch op := s.Status.Operation; {
	case s.Operation != nil && (op.ended() || op.Phase == "") || op.Phase == "":
		return "it has not begun"
	case op.Message != "":
		return op.Phase + ": " + op.Message
	default:
		return op.Phase
	}
}

func (s state) result() Result {
	op := s.Status.Operation
	r := Result{
		Phase: op.Phase, Message: op.Message, Revision: op.SyncResult.Revision,
		Sync: s.Status.Sync.Status, Health: s.Status.Health.Status,
	}
	if s.judged() {
		note := s.Metadata.Annotations
		r.Verdict, r.Reason, r.Release = note[noteVerdict], note[noteReason], note[noteRelease]
	}
	return r
}

// judged reports whether the hooks of this sync have written on the application:
// the notes of an earlier one stay there.
func (s state) judged() bool {
	for _, c := range s.Status.Conditions {
		if c.Type == conditioned && c.At != nil && !c.At.Before(s.Status.Operation.StartedAt) {
			return true
		}
	}
	return false
}
