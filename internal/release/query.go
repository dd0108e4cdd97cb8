package release

import "slices"

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

// LastGood returns the newest promotion of a version that no operator has
// withdrawn since. Usually that is the version that serves now; to go back from
// there, see [Before].
func LastGood(history []Record) (Record, bool) {
	withdrawn := map[string]bool{}
	for _, r := range slices.Backward(history) {
		switch {
		case r.withdrawal():
			withdrawn[r.Version] = true
		case r.Outcome == Promoted && !withdrawn[r.Version]:
			return r, true
		}
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
