package load

import (
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestFreshConnectionsForAMinute is the measurement behind the way connections are closed. It needs a minute:
//
//	SLUICE_LONG=1 go test -v -run AMinute ./internal/load
func TestFreshConnectionsForAMinute(t *testing.T) {
	if os.Getenv("SLUICE_LONG") == "" {
		t.Skip("takes a minute; SLUICE_LONG=1 runs it")
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello\n")) }))
	defer server.Close()
	port, _ := strconv.Atoi(server.URL[strings.LastIndex(server.URL, ":")+1:])
	for _, keepAlive := range []bool{false, true} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := Run(t.Context(), Options{URLs: []string{server.URL}, Rate: 1000, Duration: time.Minute, KeepAlive: keepAlive})
		if err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		client, srv := timeWait(t, port)
		t.Logf("keep-alive %v: sent %d, answered %d, failed %d %v, late %d, latency %+v, lag %v, stall %v, trouble %q; TIME_WAIT on our side %d, on the server's %d; heap %d → %d KiB",
			keepAlive, r.Sent, r.Answered, r.Failed, r.Errors, r.Late, r.Latency, r.Lag, r.Stall, r.Trouble(), client, srv, before.HeapInuse>>10, after.HeapInuse>>10)
		if r.Failed > 0 || r.Answered != r.Sent || r.Sent+r.Late != 60000 {
			t.Errorf("not every request was answered: %+v", r.Stats)
		}
		if !keepAlive && client > 0 {
			t.Errorf("%d connections wait on the client's side", client)
		}
	}
}

// timeWait counts the TCP connections in TIME_WAIT of a server's port, by the side that closed first.
func timeWait(t testing.TB, port int) (client, server int) {
	t.Helper()
	hex := strings.ToUpper(strconv.FormatInt(int64(port)+0x10000, 16)[1:])
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			if len(f) < 4 || f[3] != "06" {
				continue
			}
			if strings.HasSuffix(f[1], ":"+hex) {
				server++
			} else if strings.HasSuffix(f[2], ":"+hex) {
				client++
			}
		}
	}
	return client, server
}
