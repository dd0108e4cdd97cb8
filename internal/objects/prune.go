package objects

// maxEvents is how many of an object's newest events are kept, and pruneAt how
// many stale ones gather before they are removed.
const (
	maxEvents = 200
	pruneAt   = 50
)

// stale returns the indices of events that nothing rests on any more. Besides the
// newest ones there stay: when the object was first stored, its last bundle, the
// last time that it was found good, when each node loaded it last, and every last
// word that says bad. So it is as good, or as bad, as with all of them.
func stale(events []Event) []int {
	if len(events) <= maxEvents {
		return nil
	}
	keep := map[int]bool{}
	for _, i := range lastWords(events) {
		keep[i] = events[i].Kind == Bad
	}
	first, newest := -1, map[Kind]int{}
	loaded := map[string]int{}
	for i, e := range events {
		newest[e.Kind] = i
		if e.Kind == Stored && first < 0 {
			first = i
		}
		if e.Kind == Loaded {
			loaded[e.By] = i
		}
	}
	keep[first] = true
	for _, i := range newest {
		keep[i] = true
	}
	for _, i := range loaded {
		keep[i] = true
	}
	var list []int
	for i := range len(events) - maxEvents {
		if !keep[i] {
			list = append(list, i)
		}
	}
	return list
}
