// Package apiserver speaks to the API server of a Kubernetes cluster, patiently: a
// call is repeated while the server is away, busy or coming up, until its context
// ends. What the server refuses becomes an error that says which permission lacks,
// or whose an object is.
//
// It promises that nobody waits for a connection that hangs, and that an answer is
// read whole or not at all. It knows nothing of releases: those are in the packages
// above it, k8s (traffic) and ledger (the history). [Patiently] is for those who
// have a client of their own.
package apiserver

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Patience is how long a call lasts whose context has no deadline.
const Patience = 20 * time.Second

const (
	tryLimit = 5 * time.Second // for one try of a call
	most     = 64 << 20        // bytes of an answer
)

// tooLongError means that an answer was not read to its end.
type tooLongError struct{ most int64 }

func (e *tooLongError) Error() string { return fmt.Sprintf("it is longer than %d bytes", e.most) }

// Client speaks to the API server: plain JSON, one try at a time, over HTTP/1.1, so
// that a connection that hangs is given up with the call that hung on it. It may be
// used by several goroutines.
type Client struct {
	base   *url.URL
	http   *http.Client
	most   int64 // bytes of an answer
	outage Outage
}

// New prepares a client; nothing is sent yet.
func New(cfg *rest.Config) (*Client, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.TLSClientConfig.NextProtos = []string{"http/1.1"}
	cfg.UserAgent = cmp.Or(cfg.UserAgent, Manager)
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("reading the address of the API server: %w", err)
	}
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("preparing a client of the API server: %w", err)
	}
	return &Client{base: base, http: client, most: most}, nil
}

// Close ends connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Call is one request.
type Call struct {
	Verb  string // of HTTP
	Path  string // of the object, without the server
	Query url.Values
	Kind  string // of the body
	Body  []byte
	Into  any // what the answer is read into; may be nil
	// Insist repeats the call also when it is forbidden, for a while: an API server
	// that has just started does not know its roles yet.
	Insist bool
}

// Get reads an object.
func (c *Client) Get(ctx context.Context, path string, into any) error {
	return c.Do(ctx, Call{Verb: http.MethodGet, Path: path, Into: into})
}

// List reads the objects that a label selector names.
func (c *Client) List(ctx context.Context, path, selector string, into any) error {
	return c.Do(ctx, Call{Verb: http.MethodGet, Path: path, Query: url.Values{"labelSelector": {selector}}, Into: into})
}

// Create writes a new object.
func (c *Client) Create(ctx context.Context, path string, object, into any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encoding an object for %s: %w", path, err)
	}
	q := url.Values{"fieldManager": {Manager}}
	return c.Do(ctx, Call{Verb: http.MethodPost, Path: path, Query: q, Kind: "application/json", Body: body, Into: into})
}

// Do makes a call, patiently.
func (c *Client) Do(ctx context.Context, call Call) error {
	o := &c.outage
	if call.Insist {
		o = new(Outage)
		o.suspect()
	}
	return Patiently(ctx, o, func(ctx context.Context) error { return c.Once(ctx, call) })
}

// Once makes one try of a call, which ends after five seconds.
func (c *Client) Once(ctx context.Context, call Call) error {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	u := c.base.JoinPath(call.Path)
	u.RawQuery = call.Query.Encode()
	req, err := http.NewRequestWithContext(ctx, call.Verb, u.String(), bytes.NewReader(call.Body))
	if err != nil {
		return fmt.Errorf("preparing a call of the API server: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	if call.Kind != "" {
		req.Header.Set("Content-Type", call.Kind)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("calling the API server: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, c.most+1))
	if err != nil {
		return fmt.Errorf("reading the answer of the API server: %w", err)
	}
	if int64(len(raw)) > c.most {
		return fmt.Errorf("reading the answer of the API server to %s: %w", call.Path, &tooLongError{c.most})
	}
	if resp.StatusCode/100 != 2 {
		return refusal(resp.StatusCode, call, raw)
	}
	if call.Into == nil {
		return nil
	}
	if err := json.Unmarshal(raw, call.Into); err != nil {
		return fmt.Errorf("reading the answer of the API server to %s: %w", call.Path, err)
	}
	return nil
}

// refusal is the error that the API server answered. A path that it does not
// know at all is answered without a status, which gets no details here.
func refusal(code int, call Call, raw []byte) error {
	var s metav1.Status
	if json.Unmarshal(raw, &s) != nil || s.Kind != "Status" {
		reason := metav1.StatusReasonUnknown
		if code == http.StatusNotFound {
			reason = metav1.StatusReasonNotFound
		}
		s = metav1.Status{Status: metav1.StatusFailure, Reason: reason, Message: fmt.Sprintf("%s %s: %d %s", call.Verb, call.Path, code, http.StatusText(code))}
	}
	s.Code = int32(code)
	return &apierrors.StatusError{ErrStatus: s}
}

// UnknownKind reports whether err says that the API server has no such kind of
// object, as opposed to no such object.
func UnknownKind(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	d := status.Status().Details
	return d == nil || d.Name == ""
}
