package release

import (
	"slices"

	"github.com/sluice-cd/sluice/internal/reference"
)

// Running returns the record by which the version that serves now was
// promoted. It is false before the first promotion.
func Running(history []Record) (Record, bool) {
	if stack := serving(history); len(stack) > 0 {
		return stack[len(stack)-1], true
	}
	return Record{}, false
}

// Before returns the promotion to go back to from the version that serves now:
// the last one that served and was neither withdrawn nor skipped by an
// operator's rollback.
func Before(history []Record) (Record, bool) {
	if stack := serving(history); len(stack) > 1 {
		return stack[len(stack)-2], true
	}
	return Record{}, false
}

// Find returns the newest promotion of version.
func Find(history []Record, version string) (Record, bool) {
	for _, r := range slices.Backward(history) {
		if r.Outcome == Promoted && r.Version == version {
			return r, true
		}
	}
	return Record{}, false
}

// Unfinished returns the rollouts that have started and not ended, oldest first.
func Unfinished(history []Record) []Rollout {
	var open []Rollout
	for _, r := range history {
		if !r.Finished() {
			open = append(open, r.Rollout)
		}
	}
	return open
}

// Decided returns the rollout whose verdict holds for an image and a
// configuration of the gate, so that a repeated deployment answers from the
// history instead of trying its luck again. The image is a digest, "sha256:…",
// or a reference that ends with one; tags and registries do not count.
//
// Every verdict holds, pass as well as fail, inconclusive, no-data and invalid.
// It is false if the image or the gate is unknown, if the rollout is not over,
// was interrupted by an operator ([Operator]) or by the death of sluice
// ([Death]), ended before the gate had a verdict, or was forgotten
// together with all that came before it. It is also false for what was cut off a
// ledger with a limit, which keeps some hundreds of rollouts.
func Decided(history []Record, image, gate string) (Record, bool) {
	digest := reference.Parse(image).Digest
	if digest == "" || gate == "" {
		return Record{}, false
	}
	for _, r := range slices.Backward(history) {
		switch {
		case r.Rollout.Operator != "" || r.Gate != gate || reference.Parse(r.Image).Digest != digest:
		case r.Forgotten != nil:
			return Record{}, false
		case r.conclusive():
			return r, true
		}
	}
	return Record{}, false
}

// conclusive reports whether the end of r says something about the image.
func (r Record) conclusive() bool {
	switch {
	case !r.Finished(), r.Trigger == Operator, r.Trigger == Death:
		return false
	case r.Outcome != Promoted && r.Verdict == "":
		return false
	}
	return true
}

// serving returns the promotions of the versions that served, the present one
// on top. A promotion is put on top; an operator's rollback takes off all that
// it goes back over.
func serving(history []Record) []Record {
	var stack []Record
	named := func(version string) func(Record) bool {
		return func(r Record) bool { return r.Version == version }
	}
	for i, r := range history {
		switch {
		case r.Outcome == Promoted:
			stack = append(slices.DeleteFunc(stack, named(r.Version)), r)
		case r.withdrawal():
			if to := slices.IndexFunc(stack, named(r.Previous)); to >= 0 {
				stack = stack[:to+1]
				continue
			}
			stack = slices.DeleteFunc(stack, named(r.Version))
			if to, ok := Find(history[:i], r.Previous); ok {
				stack = append(stack, to)
			}
		}
	}
	return stack
}

func (r Record) withdrawal() bool { return r.Outcome == RolledBack && r.Trigger == Operator }
