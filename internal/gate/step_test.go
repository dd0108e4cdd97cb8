package gate

import "testing"

func TestNextStepAsksForThePassAnewAndKeepsTheEvidenceOfHarm(t *testing.T) {
	p := capped{log: 3, limit: 9}
	p.restart()
	if p.log != 0 {
		t.Errorf("evidence for a pass after restart: %v, want 0", p.log)
	}
	p = capped{log: -3, limit: 9}
	p.restart()
	if p.log != -3 {
		t.Errorf("evidence against a pass after restart: %v, want it kept", p.log)
	}
}
