package probe

import (
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// arena is a probe over a control group in which this process opens the sockets
// that listen. Its clients are outside, so it sees both ends of what is hostile.
type arena struct {
	group string
	p     *Probe
}

func newArena(t testing.TB, opts Options) *arena {
	t.Helper()
	a := &arena{group: testenv.TempCgroup(t)}
	var err error
	if a.p, err = Load(Object(), bpf.DigestOf(Object()), opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.p.Close() })
	if err := a.p.Attach(a.group); err != nil {
		t.Fatal(err)
	}
	return a
}

// listen opens a listener in the group. What it accepts belongs to the group as
// well, whoever accepts it.
func (a *arena) listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	moving.Lock()
	defer moving.Unlock()
	home := testenv.CgroupRoot(t) + ownGroup(t)
	join(t, a.group)
	defer join(t, home)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// moving is held while this process is in another control group than its own.
var moving sync.Mutex

func ownGroup(t testing.TB) string {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, own, _ := strings.Cut(string(raw), "0::")
	own, _, _ = strings.Cut(own, "\n")
	return own
}

// serve runs a server of net/http, for HTTP/1.1 and HTTP/2 in the clear.
func (a *arena) serve(t testing.TB, h http.Handler) string {
	t.Helper()
	return a.serveAt(t, "127.0.0.1:0", h)
}

func (a *arena) serveAt(t testing.TB, addr string, h http.Handler) string {
	t.Helper()
	l := a.listen(t, addr)
	server := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.ErrorLog = discard
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

// of is what was counted of one address.
func (a *arena) of(t testing.TB, addr string) Counts {
	t.Helper()
	snap, err := a.p.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for w, c := range snap.Workloads {
		if w.Addr.String() == addr {
			return c
		}
	}
	return Counts{}
}

// settled is what was counted of one address when nothing is in flight any more.
// Its connections are closed, so what stays in flight fails the test: it will be
// forever.
func (a *arena) settled(t testing.TB, addr string) Counts {
	t.Helper()
	return a.settledSince(t, addr, Counts{})
}

// settledSince looks at what was counted since before only.
func (a *arena) settledSince(t testing.TB, addr string, before Counts) Counts {
	t.Helper()
	var begun, ended uint64
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		got := a.of(t, addr)
		begun, ended = got.Begun-before.Begun, got.Requests+got.Aborted-before.Requests-before.Aborted
		if begun == ended {
			return got
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d requests have begun and %d have ended, though no connection is open", begun, ended)
	return a.of(t, addr)
}

// loss is what the probe lost; exemplars that nobody read do not matter here.
func (a *arena) loss(t testing.TB) Loss {
	t.Helper()
	snap, err := a.p.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	snap.Loss.Exemplars = 0
	return snap.Loss
}

var discard = log.New(io.Discard, "", 0)
