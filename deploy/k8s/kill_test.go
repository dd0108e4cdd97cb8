package k8s

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// doomed is what a rollout does before it is killed.
type doomed struct {
	Kubeconfig string
	Service    Service
	Point      string
}

// beKilled goes to a point of a rollout, says so and waits for the end.
func beKilled() error {
	var d doomed
	if err := json.Unmarshal([]byte(os.Getenv("TEST_ROLLOUT")), &d); err != nil {
		return err
	}
	cfg, err := apiserver.Connect(d.Kubeconfig)
	if err != nil {
		return err
	}
	ctx := context.Background()
	t, err := Open(ctx, cfg, d.Service)
	if err != nil {
		return err
	}
	if d.Point == "watching" {
		return watchForAWhile(ctx, t, cfg)
	}
	steps := []struct {
		name string
		do   func() error
	}{
		{"claimed", func() error { return t.divide(ctx, traffic{}) }},
		{"started", func() error { return t.Start(ctx, 100) }},
		{"header", func() error { return t.Header(ctx, true) }},
		{"shifted", func() error { return t.Shift(6000) }},
		{"isolated", t.Isolate},
	}
	for _, s := range steps {
		if !d.Service.Route && (s.name == "claimed" || s.name == "header") {
			continue
		}
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if s.name == d.Point {
			fmt.Println("there")
			time.Sleep(time.Minute)
		}
	}
	return fmt.Errorf("no such point: %s", d.Point)
}

// rollout runs one up to a point in a process of its own, kills it there and
// returns the line that it said.
func (w *world) rollout(point string) string {
	w.t.Helper()
	plan, err := json.Marshal(doomed{w.plane.Kubeconfig, w.svc, point})
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(w.t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "TEST_ROLLOUT="+string(plan))
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return strings.TrimSpace(line)
}

// kill is rollout that insists that the point was reached.
func (w *world) kill(point string) {
	w.t.Helper()
	if line := w.rollout(point); line != "there" {
		w.t.Fatalf("the rollout did not get to %q: %s", point, line)
	}
}

func TestWhatAKilledRolloutLeavesIsPutRight(t *testing.T) {
	for range testenv.Chaos(t, testenv.Kill, 1) {
		for _, route := range []bool{true, false} {
			killedAt(t, route)
		}
	}
}

// killedAt kills rollouts at every point and puts right what they leave, by
// settling and by the next rollout.
func killedAt(t *testing.T, route bool) {
	w := newWorld(t, Service{Route: route, Header: route})
	w.image("2")
	for _, point := range []string{"claimed", "started", "header", "shifted", "isolated"} {
		if !route && (point == "claimed" || point == "header") {
			continue
		}
		t.Run(fmt.Sprintf("by settling/%s/route %v", point, route), func(t *testing.T) {
			w.t = t
			w.kill(point)
			target, err := New(w.cfg, w.svc)
			if err != nil {
				t.Fatal(err)
			}
			defer target.Close()
			if err := target.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.atRest()
		})
	}
	t.Run(fmt.Sprintf("by the next rollout/route %v", route), func(t *testing.T) {
		w.t = t
		w.kill("shifted")
		target := w.open()
		if err := target.Start(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
		if route && w.weights() != "100:0 and 100:0" {
			t.Errorf("it starts with the weights %s", w.weights())
		}
		if err := errors.Join(target.Shift(2000), target.Settle(t.Context())); err != nil {
			t.Fatal(err)
		}
		w.atRest()
	})
}
