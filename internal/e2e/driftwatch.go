package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// watcher is the command drift --watch of a person, while it runs.
type watcher struct {
	stop func()
	done chan struct{}

	mu     sync.Mutex
	lines  []watched
	stderr strings.Builder
	err    error // of the process; read after done
}

// watched is one line of it, with the moment that it was there to be read.
type watched struct {
	Read       time.Time `json:"-"`
	Mended     bool      `json:"mended"`
	Difference struct {
		Kind, View, Where, Want, Got, Mender, How string
	} `json:"difference"`
}

func (w watched) String() string {
	d := w.Difference
	if w.Mended {
		return fmt.Sprintf("%s %s: mended", d.View, d.Where)
	}
	return fmt.Sprintf("%s %s %s: want %s, got %s (%s: %s)", d.Kind, d.View, d.Where, d.Want, d.Got, d.Mender, d.How)
}

// watchDrift starts the command in the cluster's network. Before that it waits
// until a single look finds no drift.
func (s *service) watchDrift(ctx context.Context) (*watcher, error) {
	login := filepath.Join(s.work, "git-"+s.name)
	if err := os.MkdirAll(login, 0o700); err != nil {
		return nil, fmt.Errorf("keeping the credentials of git: %w", err)
	}
	for name, value := range map[string]string{"username": s.info.GitUser, "password": s.password} {
		if err := os.WriteFile(filepath.Join(login, name), []byte(value), 0o600); err != nil {
			return nil, fmt.Errorf("keeping the credentials of git: %w", err)
		}
	}
	args := []string{"drift", "-f", filepath.Join(s.repo.dir, "sluice.yaml"), "--git-credentials", login}
	var last string
	err := poll(ctx, time.Minute, "a look that finds no drift", func() (ok bool, err error) {
		cmd := exec.Command(s.argo, args...)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		err = s.info.Run(ctx, cmd)
		last = out.String()
		return err == nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w; the last look: %s", err, last)
	}
	return startWatcher(ctx, s.info.Run, exec.Command(s.argo, append(args, "--watch", "-o", "json")...)), nil
}

// startWatcher starts a command that prints changes, in the place of the runner.
func startWatcher(ctx context.Context, in runner, cmd *exec.Cmd) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{stop: cancel, done: make(chan struct{})}
	out, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, &w.stderr
	go func() {
		w.err = in(ctx, cmd)
		_ = write.Close()
	}()
	go func() {
		defer close(w.done)
		w.read(out)
	}()
	return w
}

func (w *watcher) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := watched{Read: time.Now()}
		if json.Unmarshal(lines.Bytes(), &line) != nil || line.Difference.View == "" {
			continue // the summary
		}
		w.mu.Lock()
		w.lines = append(w.lines, line)
		w.mu.Unlock()
	}
}

// close ends the command.
func (w *watcher) close() {
	w.stop()
	<-w.done
}

// find looks for a line since a moment about a view and a part of a place.
func (w *watcher) find(since time.Time, mended bool, view, where string) (watched, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.lines {
		d := line.Difference
		if d.Kind == "drift" && line.Mended == mended && d.View == view && strings.Contains(d.Where, where) && !line.Read.Before(since) {
			return line, true
		}
	}
	return watched{}, false
}

// await waits for such a line.
func (w *watcher) await(ctx context.Context, limit time.Duration, since time.Time, mended bool, view, where string) (watched, error) {
	var found watched
	err := poll(ctx, limit, fmt.Sprintf("a word of drift --watch about %s %s (mended: %v)", view, where, mended), func() (ok bool, err error) {
		select {
		case <-w.done:
			return false, fmt.Errorf("drift --watch has ended: %w: %s", w.err, w.stderr.String())
		default:
		}
		found, ok = w.find(since, mended, view, where)
		return ok, nil
	})
	if err != nil {
		return found, fmt.Errorf("%w; it said: %s", err, strings.Join(w.said(since), "; "))
	}
	return found, nil
}

// said are the lines since a moment, for a person.
func (w *watcher) said(since time.Time) (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.lines {
		if !line.Read.Before(since) {
			list = append(list, fmt.Sprintf("+%.1f s %s", line.Read.Sub(since).Seconds(), line))
		}
	}
	return list
}
