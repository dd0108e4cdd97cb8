package k8s

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

const (
	patience = 20 * time.Second // for a call whose context has no deadline
	tryLimit = 5 * time.Second  // for one try of a call
	most     = 64 << 20         // bytes of an answer
)

// tooLongError means that an answer was not read to its end.
type tooLongError struct{ most int64 }

func (e *tooLongError) Error() string { return fmt.Sprintf("it is longer than %d bytes", e.most) }

// api speaks to the API server: plain JSON, one try at a time, over HTTP/1.1, so
// that a connection that hangs is given up with the call that hung on it.
type api struct {
	base   *url.URL
	http   *http.Client
	most   int64 // bytes of an answer
	outage Outage
}

func newAPI(cfg *rest.Config) (*api, error) {
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
	return &api{base: base, http: client, most: most}, nil
}

func (a *api) close() { a.http.CloseIdleConnections() }

// call is one request. into may be nil.
type call struct {
	verb  string
	path  string // of the object, without the server
	query url.Values
	kind  string // of the body
	body  []byte
	into  any
	// insist repeats the call also when it is forbidden, for a while: an API server
	// that has just started does not know its roles yet.
	insist bool
}

// get reads an object.
func (a *api) get(ctx context.Context, path string, into any) error {
	return a.do(ctx, call{verb: http.MethodGet, path: path, into: into})
}

// list reads the objects that a label selector names.
func (a *api) list(ctx context.Context, path, selector string, into any) error {
	return a.do(ctx, call{verb: http.MethodGet, path: path, query: url.Values{"labelSelector": {selector}}, into: into})
}

// create writes a new object.
func (a *api) create(ctx context.Context, path string, object, into any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encoding an object for %s: %w", path, err)
	}
	q := url.Values{"fieldManager": {Manager}}
	return a.do(ctx, call{verb: http.MethodPost, path: path, query: q, kind: "application/json", body: body, into: into})
}

// do makes the call, patiently.
func (a *api) do(ctx context.Context, c call) error {
	o := &a.outage
	if c.insist {
		o = new(Outage)
		o.suspect()
	}
	return Patiently(ctx, o, func(ctx context.Context) error { return a.once(ctx, c) })
}

func (a *api) once(ctx context.Context, c call) error {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	u := a.base.JoinPath(c.path)
	u.RawQuery = c.query.Encode()
	req, err := http.NewRequestWithContext(ctx, c.verb, u.String(), bytes.NewReader(c.body))
	if err != nil {
		return fmt.Errorf("preparing a call of the API server: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	if c.kind != "" {
		req.Header.Set("Content-Type", c.kind)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return fmt.Errorf("calling the API server: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, a.most+1))
	if err != nil {
		return fmt.Errorf("reading the answer of the API server: %w", err)
	}
	if int64(len(raw)) > a.most {
		return fmt.Errorf("reading the answer of the API server to %s: %w", c.path, &tooLongError{a.most})
	}
	if resp.StatusCode/100 != 2 {
		return refusal(resp.StatusCode, c, raw)
	}
	if c.into == nil {
		return nil
	}
	if err := json.Unmarshal(raw, c.into); err != nil {
		return fmt.Errorf("reading the answer of the API server to %s: %w", c.path, err)
	}
	return nil
}

// refusal is the error that the API server answered. A path that it does not
// know at all is answered without a status, which gets no details here.
func refusal(code int, c call, raw []byte) error {
	var s metav1.Status
	if json.Unmarshal(raw, &s) != nil || s.Kind != "Status" {
		reason := metav1.StatusReasonUnknown
		if code == http.StatusNotFound {
			reason = metav1.StatusReasonNotFound
		}
		s = metav1.Status{Status: metav1.StatusFailure, Reason: reason, Message: fmt.Sprintf("%s %s: %d %s", c.verb, c.path, code, http.StatusText(code))}
	}
	s.Code = int32(code)
	return &apierrors.StatusError{ErrStatus: s}
}

// unknownKind reports whether err says that the API server has no such kind of
// object, as opposed to no such object.
func unknownKind(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	d := status.Status().Details
	return d == nil || d.Name == ""
}
