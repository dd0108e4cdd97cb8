package release

import (
	"context"
	"fmt"
)

// Log is a ledger wherever it is kept: in a file ([Ledger.Log]), or in a place
// that several processes share ([Shared]).
type Log interface {
	// Start records the start of a rollout and returns its id; r.ID is ignored.
	// Only one rollout runs at a time: as long as another one has not ended the
	// error is a *RunningError. What an operator does (r.Operator) waits for nobody.
	Start(ctx context.Context, r Rollout) (id int, err error)
	// Finish records the end of the rollout id. One that has ended before is a
	// *FinishedError, and the end that was recorded first stays.
	Finish(ctx context.Context, id int, r Result) error
	// Forget records that the verdict of the rollout id does not count any more.
	Forget(ctx context.Context, id int, f Forgotten) error
	// Records returns every rollout, oldest first.
	Records(ctx context.Context) ([]Record, error)
}

// RunningError says that another rollout has started and not ended.
type RunningError struct{ Rollout Rollout }

func (e *RunningError) Error() string {
	return fmt.Sprintf("rollout %d of %s %s has not ended", e.Rollout.ID, e.Rollout.Name, e.Rollout.Version)
}

// Hint tells how to go on.
func (e *RunningError) Hint() string {
	return "wait until it has ended; if what ran it is dead, its end has to be recorded first"
}

// FinishedError says that a rollout has ended before.
type FinishedError struct{ ID int }

func (e *FinishedError) Error() string { return fmt.Sprintf("rollout %d ends twice", e.ID) }

// Log returns l for those who write to a ledger wherever it is kept.
func (l *Ledger) Log() Log { return fileLog{l} }

type fileLog struct{ *Ledger }

func (l fileLog) Start(_ context.Context, r Rollout) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.chain.free(r); err != nil {
		return 0, err
	}
	e := started(&l.chain, r)
	if err := l.append(e); err != nil {
		return 0, err
	}
	return e.ID, nil
}

func (l fileLog) Finish(_ context.Context, id int, r Result) error { return l.Ledger.Finish(id, r) }

func (l fileLog) Forget(_ context.Context, id int, f Forgotten) error {
	return l.Ledger.Forget(id, f)
}

func (l fileLog) Records(context.Context) ([]Record, error) { return l.Ledger.Records(), nil }

// free reports whether r may start now.
func (c *chain) free(r Rollout) error {
	if r.Operator != "" {
		return nil
	}
	for _, open := range Unfinished(c.records) {
		if open.Operator == "" {
			return &RunningError{Rollout: open}
		}
	}
	return nil
}

// started is the line for the start of r.
func started(c *chain, r Rollout) entry {
	r.ID = c.last + 1
	r.Started, r.Committed = utc(r.Started), utc(r.Committed)
	return entry{ID: r.ID, Started: &r}
}

// finished is the line for the end of the rollout id.
func finished(id int, r Result) entry {
	ms := r.Timeline.breachToTraffic() // before the monotonic clock readings are lost
	r.Ended, r.Timeline = utc(r.Ended), r.Timeline.utc()
	return entry{ID: id, Finished: &r, BreachToTrafficMS: ms}
}

// forgotten is the line for a verdict that does not count any more.
func forgotten(id int, f Forgotten) entry {
	f.At = utc(f.At)
	return entry{ID: id, Forgotten: &f}
}
