package probe

import "testing"

func TestASlotThatWasGivenBackServesAnotherWorkload(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{Workloads: 1})
	four, six := dial(t, s.v4), dial(t, s.v6)
	ask := func(c *conn, n int) {
		t.Helper()
		for range n {
			c.send(get("/"))
			c.answers(1, "GET")
		}
	}
	counted := func(addr string, want, lost uint64) {
		t.Helper()
		snap, err := p.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		for w, c := range snap.Workloads {
			if w.Addr.String() != addr || c.Requests != want || c.Latency.Count() != want {
				t.Errorf("%v has %d requests, want %d of %s", w, c.Requests, want, addr)
			}
		}
		if len(snap.Workloads) != 1 || snap.Loss.Requests != lost {
			t.Errorf("%d workloads, %d requests lost; want 1 and %d", len(snap.Workloads), snap.Loss.Requests, lost)
		}
	}
	forget := func() {
		t.Helper()
		snap, err := p.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		for w := range snap.Workloads {
			for range 2 { // the second time there is nothing to forget
				if err := p.Forget(w); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	ask(four, 3)
	counted(s.v4, 3, 0)
	forget()
	ask(six, 2)
	counted(s.v6, 2, 0)
	ask(four, 4) // its connection holds a ticket that is not valid any more
	counted(s.v6, 2, 4)
	forget()
	ask(four, 5) // a connection may find its way back
	counted(s.v4, 5, 4)
}
