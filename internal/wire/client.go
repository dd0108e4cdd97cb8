package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/bpf"
)

// ErrReadOnly is returned by what would change something over plain TCP.
var ErrReadOnly = errors.New("a probe takes no orders over http://, use https:// with a client certificate or its Unix socket")

// Limits of what a server may answer.
const (
	maxSnapshot = 32 << 20
	maxAnswer   = 1 << 20
)

// Config of a Client; the zero value works. Certificates are read again for
// every connection, because they are renewed while a client runs.
type Config struct {
	Certificate string        // PEM file, and with Key the client's identity; "": none, and so read only
	Key         string        // PEM file
	Authorities string        // PEM file of those who sign servers; "": the system's
	Server      string        // SPIFFE id or DNS name that the server must have; "": the target's host
	Timeout     time.Duration // of a request; 0: 5 s to read, 30 s to change something
}

// Client talks to one sluice-probe. It may be used by many goroutines.
type Client struct {
	base     string
	readOnly bool
	http     *http.Client
	timeout  time.Duration
}

// Encoded returns the snapshot as it came, for Merge.
func (c *Client) Encoded(ctx context.Context) ([]byte, error) {
	return c.do(ctx, call{method: http.MethodGet, path: PathSnapshot, accept: MediaType, limit: maxSnapshot})
}

// Snapshot returns what the probe has counted.
func (c *Client) Snapshot(ctx context.Context) (Status, error) {
	b, err := c.Encoded(ctx)
	if err != nil {
		return Status{}, err
	}
	return Decode(b)
}

// Objects returns what is loaded and the history.
func (c *Client) Objects(ctx context.Context) (Objects, error) {
	return ask[Objects](ctx, c, call{method: http.MethodGet, path: PathObjects})
}

// Swap puts another object in the place of the running one, if the bundle is a
// signature of it that the probe accepts.
func (c *Client) Swap(ctx context.Context, object, bundle []byte) (SwapResult, error) {
	return c.SwapAs(ctx, SwapRequest{Object: object, Bundle: bundle, Digest: bpf.DigestOf(object)})
}

// SwapAs is Swap with all that can be asked for.
func (c *Client) SwapAs(ctx context.Context, q SwapRequest) (SwapResult, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return SwapResult{}, err
	}
	return ask[SwapResult](ctx, c, call{method: http.MethodPost, path: PathObjects, body: body})
}

// Rollback goes back to the last good object.
func (c *Client) Rollback(ctx context.Context) (SwapResult, error) {
	return ask[SwapResult](ctx, c, call{method: http.MethodPost, path: PathRollback})
}

// Healthy returns nil if the probe counts and is the one that was verified.
func (c *Client) Healthy(ctx context.Context) error {
	_, err := c.do(ctx, call{method: http.MethodGet, path: PathReady, accept: "*/*", limit: maxAnswer})
	return err
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call is one request.
type call struct {
	method, path string
	accept       string // Content-Type that the answer must have; "*/*": any
	body         []byte // JSON
	limit        int64  // of the answer, in bytes
}

// ask makes a call that is answered by JSON.
func ask[T any](ctx context.Context, c *Client, q call) (T, error) {
	var answer T
	q.accept, q.limit = "application/json", maxAnswer
	b, err := c.do(ctx, q)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return answer, fmt.Errorf("reading %s of a probe: %w", q.path, err)
	}
	return answer, nil
}

// do makes a call. What the server refuses is an *Error.
func (c *Client) do(ctx context.Context, q call) ([]byte, error) {
	if c.readOnly && q.method != http.MethodGet {
		return nil, ErrReadOnly
	}
	ctx, cancel := context.WithTimeout(ctx, c.patience(q.method))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, q.method, c.base+q.path, bytes.NewReader(q.body))
	if err != nil {
		return nil, fmt.Errorf("asking a probe: %w", err)
	}
	req.Header.Set("Accept", q.accept)
	if q.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking a probe: %w", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, q.limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s of a probe: %w", q.path, err)
	}
	if res.StatusCode/100 != 2 {
		return nil, refusal(res.StatusCode, b)
	}
	if int64(len(b)) > q.limit {
		return nil, fmt.Errorf("reading %s of a probe: the answer is longer than %d bytes", q.path, q.limit)
	}
	if got := res.Header.Get("Content-Type"); q.accept != "*/*" && !strings.HasPrefix(got, q.accept) {
		return nil, fmt.Errorf("reading %s of a probe: the answer is of type %q, expected %q", q.path, got, q.accept)
	}
	return b, nil
}

func (c *Client) patience(method string) time.Duration {
	switch {
	case c.timeout > 0:
		return c.timeout
	case method == http.MethodGet:
		return 5 * time.Second
	}
	return 30 * time.Second
}

// refusal is what an answer that is no success says; only one short line of it
// is kept, in whatever form it came.
func refusal(status int, body []byte) *Error {
	e := &Error{Status: status}
	if json.Unmarshal(body, e) != nil {
		e.Message = string(body)
	}
	e.Status, e.Message, e.Advice = status, line(e.Message), line(e.Advice)
	return e
}

// line is the first line of a text that somebody else wrote, made safe to print.
func line(text string) string {
	const most = 500
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x9b {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return text
}
