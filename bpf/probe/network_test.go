package probe

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// mixed is a server whose answers are as long as they are asked to be.
var mixed = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	size := 0
	_, _ = fmt.Sscan(r.URL.Query().Get("size"), &size)
	w.Header().Set("Content-Length", fmt.Sprint(size))
	_, _ = io.WriteString(w, strings.Repeat("x", size))
})

// demand sends n requests of several shapes on some connections, one after
// the other on each, and returns how many were answered.
func demand(t testing.TB, client *http.Client, base string, conns, n int) (answered uint64) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range conns {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 3))
			for range n / conns {
				body := strings.NewReader(strings.Repeat(get("/"), r.IntN(3)*r.IntN(800)))
				req, err := http.NewRequest("POST", fmt.Sprintf("%s/?size=%d", base, r.IntN(3)*r.IntN(20_000)), body)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Cookie", strings.Repeat("c", r.IntN(2)*r.IntN(5000)))
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				answered++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return answered
}

// eachSeed runs a test on as many roads that differ in what happens when.
func eachSeed(t *testing.T, seeds int, name string, test func(t *testing.T, seed uint64)) {
	for seed := range uint64(seeds) {
		if seed > 0 {
			name = fmt.Sprintf("%s, seed %d", strings.Split(name, ", seed ")[0], seed)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, seed)
		})
	}
}

func TestEveryRequestIsCountedOnceWhateverTheNetworkDoes(t *testing.T) {
	const conns, requests = 16, 400
	seeds := testenv.Chaos(t, testenv.PacketLoss, 1)
	for name, tt := range map[string]struct {
		road
		mtu    int
		server string
		again  bool // segments have to be sent again
	}{
		"a good network":              {mtu: 1500, server: "10.9.0.2"},
		"reordered":                   {mtu: 1500, server: "10.9.0.2", road: road{reorder: 0.2}},
		"duplicated":                  {mtu: 1500, server: "10.9.0.2", road: road{duplicate: 0.3}},
		"5 % are lost":                {mtu: 1500, server: "10.9.0.2", road: road{drop: 0.05}, again: true},
		"all of it":                   {mtu: 1500, server: "[fd09::2]", road: road{drop: 0.03, duplicate: 0.1, reorder: 0.1, corrupt: 0.02}, again: true},
		"large segments":              {mtu: 1500, server: "10.9.0.2", road: road{offload: true}},
		"all of it in large segments": {mtu: 1500, server: "[fd09::2]", road: road{drop: 0.03, duplicate: 0.1, reorder: 0.1, offload: true}, again: true},
		"the smallest MTU of IPv6":    {mtu: 1280, server: "[fd09::2]", road: road{drop: 0.02, reorder: 0.1}, again: true},
		"the smallest MTU of IPv4":    {mtu: 576, server: "10.9.0.2", road: road{drop: 0.01, reorder: 0.1}, again: true},
		"packets change on the way":   {mtu: 1500, server: "10.9.0.2", road: road{corrupt: 0.05}, again: true},
		"somebody forges segments":    {mtu: 1500, server: "10.9.0.2", road: road{forge: 0.1}},
	} {
		eachSeed(t, seeds, name, func(t *testing.T, seed uint64) {
			way := tt.road
			way.seed = seed
			a, there, here := newArena(t, Options{}), newNetns(t), newNetns(t)
			w := connect(t, there, here, tt.mtu, way)
			var addr string
			here.do(t, func() { addr = a.serveAt(t, tt.server+":0", mixed) })
			client := there.client(t, conns)
			answered := demand(t, client, "http://"+addr, conns, requests)
			client.CloseIdleConnections()
			got := a.settled(t, addr)
			loss := a.loss(t)
			if got.Requests != answered || got.Aborted != 0 || loss != (Loss{}) {
				t.Errorf("%d were answered, %d begun, %d counted, %d aborted, lost %+v; %v",
					answered, got.Begun, got.Requests, got.Aborted, loss, w.fates())
			}
			if tt.again && got.Retransmits == 0 {
				t.Error("no retransmits were counted")
			}
		})
	}
}

// TestHTTP2UnderLossIsCountedOrSaidToBeLost: a hole makes a connection's frames
// unknown until they are recognised again. What is answered meanwhile is missing,
// and the probe says so, at worst by the hole itself ([Status.Coverage] of
// internal/wire takes each for a request).
func TestHTTP2UnderLossIsCountedOrSaidToBeLost(t *testing.T) {
	const requests = 400
	seeds := testenv.Chaos(t, testenv.PacketLoss, 1)
	for name, tt := range map[string]struct {
		road
		exact bool
	}{
		"a good network": {exact: true},
		"duplicated":     {road: road{duplicate: 0.3}, exact: true},
		"large segments": {road: road{offload: true}, exact: true},
		"reordered":      {road: road{reorder: 0.2}},
		"3 % are lost":   {road: road{drop: 0.03}},
		"forged":         {road: road{forge: 0.05}},
	} {
		eachSeed(t, seeds, name, func(t *testing.T, seed uint64) {
			way := tt.road
			way.seed = seed
			a, there, here := newArena(t, Options{}), newNetns(t), newNetns(t)
			connect(t, there, here, 1500, way)
			var addr string
			here.do(t, func() { addr = a.serveAt(t, "10.9.0.2:0", mixed) })
			var answered uint64
			for range 2 { // two connections, with eight streams at a time
				client := there.client(t, 1)
				tr := client.Transport.(*http.Transport)
				tr.Protocols = new(http.Protocols)
				tr.Protocols.SetUnencryptedHTTP2(true)
				answered += demand(t, client, "http://"+addr, 8, requests/2)
				client.CloseIdleConnections()
			}
			got := a.settled(t, addr)
			loss := a.loss(t)
			invariants(t, Counts{}, got)
			if got.Requests > answered || got.Requests+loss.Requests+loss.Desynced < answered || (tt.exact && got.Requests < answered) {
				t.Errorf("%d were answered, %d begun, %d counted, %d aborted, lost %+v", answered, got.Begun, got.Requests, got.Aborted, loss)
			}
		})
	}
}

// TestPacketsWithOptionsAreRead: options in or behind the IP header do not hide
// what comes after them.
func TestPacketsWithOptionsAreRead(t *testing.T) {
	const padding = "\x00\x00\x01\x04\x00\x00\x00\x00" // of IPv6: next header, length, PadN
	for name, tt := range map[string]struct {
		addr          string
		level, option int
		value         string
	}{
		"hop-by-hop options of IPv6":  {"[::1]:0", unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, padding},
		"destination options of IPv6": {"[::1]:0", unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, padding},
		"options of IPv4":             {"127.0.0.1:0", unix.IPPROTO_IP, unix.IP_OPTIONS, "\x01\x01\x01\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newArena(t, Options{})
			addr := a.serveAt(t, tt.addr, mixed)
			d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
				_ = c.Control(func(fd uintptr) { err = unix.SetsockoptString(int(fd), tt.level, tt.option, tt.value) })
				return err
			}}
			d.SetMultipathTCP(false)
			tr := &http.Transport{DialContext: d.DialContext}
			answered := demand(t, &http.Client{Transport: tr}, "http://"+addr, 2, 20)
			tr.CloseIdleConnections()
			if got := a.settled(t, addr); got.Requests != answered {
				t.Errorf("%d were answered, %d counted, lost %+v", answered, got.Requests, a.loss(t))
			}
		})
	}
}
