package objects

import (
	"regexp"
	"slices"

	"github.com/sluice-cd/sluice/bpf"
)

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func validDigest(d bpf.Digest) bool { return digestForm.MatchString(string(d)) }

// entry folds the events of one object. The zero Entry if it was never stored.
func entry(events []Event) Entry {
	if list := fold(events); len(list) > 0 {
		return list[0]
	}
	return Entry{}
}

// fold makes entries from events, in the order in which objects were stored.
// What is said about an object that was never stored is left out.
func fold(events []Event) []Entry {
	at := map[bpf.Digest]int{}
	var list []Entry
	for _, e := range events {
		i, known := at[e.Digest]
		if !known {
			i = len(list)
			at[e.Digest] = i
			list = append(list, Entry{Digest: e.Digest})
		}
		o := &list[i]
		if e.Kind == Stored {
			if o.By == "" && o.Time.IsZero() {
				o.Time, o.By = e.Time, e.By
			}
			o.Bundle = e.Bundle
		}
		o.Events = append(o.Events, e)
	}
	for i := range list {
		list[i].Good = good(list[i].Events)
	}
	return slices.DeleteFunc(list, func(e Entry) bool {
		return !slices.ContainsFunc(e.Events, func(e Event) bool { return e.Kind == Stored })
	})
}

// Bad returns why somebody's last word on the object is that it is bad, and
// whether it is.
func (e Entry) Bad() (reason string, is bool) {
	last := lastWords(e.Events)
	for i, event := range slices.Backward(e.Events) {
		if event.Kind == Bad && last[event.By] == i {
			return event.Reason, true
		}
	}
	return "", false
}

// lastWords is the index of everybody's last verdict.
func lastWords(events []Event) map[string]int {
	last := map[string]int{}
	for i, e := range events {
		if e.Kind == Good || e.Kind == Bad {
			last[e.By] = i
		}
	}
	return last
}

// good counts the last word of everybody: one says good, and none says bad.
func good(events []Event) bool {
	last := lastWords(events)
	for _, i := range last {
		if events[i].Kind == Bad {
			return false
		}
	}
	return len(last) > 0
}

// lastGood lists the good objects but one, the one found good last first.
func lastGood(events []Event, except bpf.Digest) []Entry {
	list := latest(events, func(e Event) bool { return e.Kind == Good })
	return slices.DeleteFunc(list, func(e Entry) bool { return !e.Good || e.Digest == except })
}

// latest lists the objects with an event of some kind, the one whose last such
// event is the newest first.
func latest(events []Event, of func(Event) bool) []Entry {
	when := map[bpf.Digest]int{}
	for i, e := range events {
		if of(e) {
			when[e.Digest] = i
		}
	}
	list := slices.DeleteFunc(fold(events), func(e Entry) bool { _, has := when[e.Digest]; return !has })
	slices.SortFunc(list, func(a, b Entry) int { return when[b.Digest] - when[a.Digest] })
	return list
}
