package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/internal/load"
)

// client is what runs inside the cluster's network: clients of a service that
// never stop asking. It prints a line of JSON for every second of load and for
// every request of the witness, and ends with its input.
type client struct {
	url, host string
	header    string // value of x-env that some of the witness's requests have
	rate      float64
	witness   time.Duration // time between two of its requests

	mu  sync.Mutex
	out *json.Encoder
}

// said is one line of a client.
type said struct {
	At      time.Time   `json:"at"`
	Second  *load.Stats `json:"second,omitempty"`  // what the load generator counted
	Version string      `json:"version,omitempty"` // which version answered the witness
	Header  bool        `json:"header,omitempty"`  // the witness's request had the header
	Status  int         `json:"status,omitempty"`
	Failed  string      `json:"failed,omitempty"` // why the witness got no answer
}

// requestTimeout is how long a client waits for one answer.
const requestTimeout = 5 * time.Second

// run asks until the input ends or the context does.
func (c *client) run(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, in)
	}()
	c.out = json.NewEncoder(out)
	header := http.Header{}
	if c.host != "" {
		header.Set("Host", c.host)
	}
	var group sync.WaitGroup
	group.Go(func() { c.watch(ctx) })
	_, err := load.Run(ctx, load.Options{
		URLs: []string{c.url}, Rate: c.rate, Timeout: requestTimeout, Header: header,
		EachSecond: func(s load.Stats) { c.say(said{At: s.End, Second: &s}) },
	})
	cancel()
	group.Wait()
	return err
}

func (c *client) say(s said) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.out.Encode(s) // nobody reads any more: the end is near
}

// watch is the witness: it asks regularly, each time on a new connection, and
// tells which version answered.
func (c *client) watch(ctx context.Context) {
	h := &http.Client{Timeout: requestTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(c.witness)
	defer tick.Stop()
	var group sync.WaitGroup
	defer group.Wait()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			group.Go(func() {
				if s := c.ask(h, c.header != "" && n%4 == 0); ctx.Err() == nil {
					c.say(s)
				}
			})
		}
	}
}

// ask is one request of the witness. Its time is when it was sent. It has its
// own end, so that the end of a run fails no request.
func (c *client) ask(h *http.Client, header bool) said {
	s := said{At: time.Now(), Header: header}
	req, err := http.NewRequest(http.MethodGet, c.url, nil)
	if err != nil {
		s.Failed = err.Error()
		return s
	}
	req.Host = c.host
	if header {
		req.Header.Set("X-Env", c.header)
	}
	res, err := h.Do(req)
	if err != nil {
		s.Failed = err.Error()
		return s
	}
	defer res.Body.Close()
	var answer struct {
		Version string `json:"version"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<16)).Decode(&answer); err != nil && res.StatusCode < 500 {
		s.Failed = fmt.Sprintf("reading the answer (%s): %v", res.Status, err)
	}
	s.Status, s.Version = res.StatusCode, answer.Version
	return s
}

// runClient is main for the process inside the cluster's network.
func runClient(ctx context.Context, args []string) error {
	c := &client{}
	f := clientFlags(c)
	if err := f.Parse(args); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	out := bufio.NewWriterSize(os.Stdout, 1) // a line is written at once
	defer out.Flush()
	return c.run(ctx, os.Stdin, os.Stdout)
}
