package argocd

// state is what matters of an application as Argo CD tells it.
type state struct {
	Metadata struct {
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Operation any `json:"operation"` // one that waits to be started
	Status    struct {
		Operation operation                        `json:"operationState"`
		Sync      struct{ Status string }          `json:"sync"`
		Health    struct{ Status, Message string } `json:"health"`
	} `json:"status"`
}

type operation struct {
	Phase     string `json:"phase"`
	Message   string `json:"message"`
	StartedAt string `json:"startedAt"`
}

func (o operation) ended() bool {
	return o.Phase == "Succeeded" || o.Phase == "Failed" || o.Phase == "Error"
}

func (s state) describe() string {
	switch op := s.Status.Operation; {
	case s.Operation != nil || op.Phase == "":
		return "it has not begun"
	case op.Message != "":
		return op.Phase + ": " + op.Message
	default:
		return op.Phase
	}
}

func (s state) result() Result {
	return Result{
		Phase: s.Status.Operation.Phase, Message: s.Status.Operation.Message,
		Verdict: s.Metadata.Annotations["sluice.dev/verdict"], Reason: s.Metadata.Annotations["sluice.dev/reason"],
		Sync: s.Status.Sync.Status, Health: s.Status.Health.Status,
	}
}
