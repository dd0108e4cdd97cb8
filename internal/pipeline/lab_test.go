package pipeline

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/config"
)

// patience is how long a test waits for what has to come, on however busy a
// machine.
const patience = 2 * time.Minute

// hello is the service of the tests. What it does wrong it is told by its first
// argument, or by a file with the name of its version in its folder.
const hello = `package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
)

var version = "dev"

func main() {
	if words, err := os.ReadFile(version); err == nil {
		log.Fatal(string(words))
	}
	fault := ""
	if len(os.Args) > 1 {
		fault = os.Args[1]
	}
	if fault == "silent" {
		select {}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, version) })
	switch fault {
	case "deaf":
		for {
			c, err := l.Accept()
			if err != nil {
				log.Fatal(err)
			}
			c.Close()
		}
	case "tls":
		s := httptest.NewUnstartedServer(handler)
		s.Listener.Close()
		s.Listener = l
		s.StartTLS()
		select {}
	}
	log.Fatal(http.Serve(l, handler))
}
`

// workshop is a service and the folder to which its releases go.
type workshop struct {
	t   *testing.T
	dir string // of the module
	job Job
}

var workshops atomic.Int32

func newWorkshop(t *testing.T) *workshop {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := &workshop{t: t, dir: t.TempDir()}
	text := fmt.Sprintf(`
name: job-%d-%d
build: {main: ., platforms: [%s]}
pack: {upx: off}
service: {start: %v, stop: 10s}
deploy:
  local: {listen: %q, drain: 1s}
  canary: {warmup: 0s, deadline: 60s, block: 100ms, steps: [{weight: 50%%, min: 1s}]}
`, os.Getpid(), workshops.Add(1), build.Native(), patience, l.Addr().String())
	w.write("go.mod", "module example.com/hello\n\ngo 1.24\n")
	w.write("main.go", hello)
	w.write("sluice.yaml", text)
	cfg, err := config.Load(filepath.Join(w.dir, "sluice.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	w.job = Job{Config: cfg, Out: t.TempDir(), Version: "v1.0.0"}
	return w
}

func (w *workshop) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// of is the job for another version.
func (w *workshop) of(version string, args ...string) Job {
	j := w.job
	j.Version, j.Args = version, args
	return j
}

// make makes a release.
func (w *workshop) make(j Job) error {
	w.t.Helper()
	return Run(w.t.Context(), Release(j), func(Event) {})
}

func (w *workshop) mustMake(versions ...string) {
	w.t.Helper()
	for _, v := range versions {
		if err := w.make(w.of(v)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// deploy rolls a release out. What happens to a step is done before the next one.
func (w *workshop) deploy(ctx context.Context, j Job, happens func(Event, *Rollout)) (*Rollout, map[string]Event, error) {
	w.t.Helper()
	steps, r := Deploy(j)
	events := map[string]Event{}
	err := Run(ctx, steps, func(e Event) {
		events[e.Step] = e
		if happens != nil {
			happens(e, r)
		}
	})
	return r, events, err
}
