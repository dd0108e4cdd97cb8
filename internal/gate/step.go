package gate

// NextStep asks for the evidence of a pass anew, when the canary gets more
// traffic: it has passed under the load that it had, and under no other. What
// speaks against the canary is kept, and so is the bound on a false alarm: a
// pass that was forgotten can only make the verdict later.
func (g *Gate) NextStep() {
	for _, c := range g.checks {
		c.nextStep()
	}
}

func (l *latency) nextStep() {
	for i := range l.thresholds {
		l.thresholds[i].pass.restart()
	}
}

func (f *failures) nextStep() { f.share.pass.restart() }

func (o *objective) nextStep() { o.pass.restart() }

// restart forgets what spoke for the hypothesis of a pass, not what spoke
// against it.
func (c *capped) restart() { c.log = min(c.log, 0) }
