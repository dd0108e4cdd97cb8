package objects

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// What follows is the part of etcd's API (etcdserver/api/v3/rpc.proto) that is
// needed, as its JSON gateway writes it: bytes in base64, 64-bit numbers as
// strings.
type (
	rangeRequest struct {
		Key               []byte      `json:"key"`
		RangeEnd          []byte      `json:"range_end,omitempty"`
		Limit             int         `json:"limit,omitempty"`
		Revision          json.Number `json:"revision,omitempty"`
		SortOrder         string      `json:"sort_order,omitempty"`
		SortTarget        string      `json:"sort_target,omitempty"`
		MinCreateRevision json.Number `json:"min_create_revision,omitempty"`
	}
	rangeAnswer struct {
		Header struct {
			Revision json.Number `json:"revision"`
		} `json:"header"`
		KVs  []keyValue `json:"kvs"`
		More bool       `json:"more"`
	}
	keyValue struct {
		Key            []byte      `json:"key"`
		Value          []byte      `json:"value"`
		CreateRevision json.Number `json:"create_revision,omitempty"`
		ModRevision    json.Number `json:"mod_revision,omitempty"`
	}
	comparison struct {
		Key            []byte      `json:"key"`
		Target         string      `json:"target"`
		Result         string      `json:"result"`
		CreateRevision json.Number `json:"create_revision,omitempty"`
		ModRevision    json.Number `json:"mod_revision,omitempty"`
	}
	operation struct {
		Put   *keyValue     `json:"request_put,omitempty"`
		Range *rangeRequest `json:"request_range,omitempty"`
	}
	txnRequest struct {
		Compare []comparison `json:"compare"`
		Success []operation  `json:"success"`
		Failure []operation  `json:"failure,omitempty"`
	}
	txnAnswer struct {
		Succeeded bool `json:"succeeded"`
		Responses []struct {
			Range rangeAnswer `json:"response_range"`
		} `json:"responses"`
	}
)

// found is the key that the failed branch of a transaction has read.
func (a txnAnswer) found() (keyValue, error) {
	if len(a.Responses) != 1 || len(a.Responses[0].Range.KVs) != 1 {
		return keyValue{}, errors.New("etcd gave an answer that does not fit the question")
	}
	return a.Responses[0].Range.KVs[0], nil
}

// UnavailableError means that no endpoint of etcd gave an answer in time.
type UnavailableError struct {
	Endpoints []string
	Err       error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("no answer from etcd at %s: %v", strings.Join(e.Endpoints, ", "), e.Err)
}

func (e *UnavailableError) Unwrap() error { return e.Err }

// Temporary reports whether the same may work later.
func (e *UnavailableError) Temporary() bool { return !e.certificates() }

// certificates reports whether one side does not accept the other's certificate.
func (e *UnavailableError) certificates() bool {
	var refused *tls.CertificateVerificationError
	var alert tls.AlertError
	var told *net.OpError // a "remote error", which the package keeps to itself
	return errors.As(e.Err, &refused) || errors.As(e.Err, &alert) || errors.As(e.Err, &told) && told.Op == "remote error"
}

// Hint says what to look at.
func (e *UnavailableError) Hint() string {
	if e.certificates() {
		return "etcd and this side do not accept each other's certificates: look at the authority, the certificate and its key"
	}
	return "see whether etcd is up and has a quorum: etcdctl endpoint health"
}

// TooLargeError means that etcd does not take an object of this size.
type TooLargeError struct{ Err error }

func (e *TooLargeError) Error() string { return fmt.Sprintf("too large for etcd: %v", e.Err) }

func (e *TooLargeError) Unwrap() error { return e.Err }

// Hint says what limits it.
func (e *TooLargeError) Hint() string {
	return "etcd takes requests of up to 1.5 MiB (--max-request-bytes); remove debug information with llvm-strip -g, or keep the history in a directory"
}

// statusError is an answer of the gateway that is no success.
type statusError struct {
	Status  int
	Message string
}

func (e *statusError) Error() string { return fmt.Sprintf("%s (HTTP status %d)", e.Message, e.Status) }

// gateway calls etcd's JSON gateway.
type gateway struct {
	endpoints []string
	client    *http.Client
	user      string
	password  string
	timeout   time.Duration
	session   *session
}

// session is the token of the log-in by password.
type session struct {
	sync.Mutex
	token string
}

func newGateway(cfg EtcdConfig) (gateway, error) {
	g := gateway{user: cfg.User, password: cfg.Password, timeout: cmp.Or(cfg.Timeout, DefaultEtcdTimeout), session: &session{}}
	for _, e := range cfg.Endpoints {
		u, err := url.Parse(e)
		switch {
		case err != nil:
			return gateway{}, err
		case u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
			return gateway{}, fmt.Errorf("endpoint %q, want https://host:port", e)
		case u.Scheme == "http" && !loopback(u.Hostname()):
			return gateway{}, fmt.Errorf("endpoint %q: plain HTTP is for etcd on this machine only, want https://", e)
		}
		g.endpoints = append(g.endpoints, u.Scheme+"://"+u.Host)
	}
	if len(g.endpoints) == 0 {
		return gateway{}, errors.New("no endpoint, want https://host:port")
	}
	g.client = &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:     cfg.TLS,
			DialContext:         (&net.Dialer{Timeout: g.timeout / 2}).DialContext,
			TLSHandshakeTimeout: g.timeout / 2,
			IdleConnTimeout:     time.Minute,
			TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/2 would hide why a certificate was refused
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // credentials stay where they are
	}
	return g, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// call asks the endpoints in turn until one answers.
func (g *gateway) call(ctx context.Context, path string, ask, answer any) error {
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	var failures []error
	for _, endpoint := range g.endpoints {
		// An endpoint that hangs must not use up the time of the others.
		one, cancel := context.WithTimeout(ctx, g.timeout/time.Duration(len(g.endpoints)))
		err := g.authorized(one, endpoint, path, body, answer)
		cancel()
		if err == nil {
			return nil
		}
		if err := final(err); err != nil {
			return err
		}
		failures = append(failures, err)
	}
	return &UnavailableError{Endpoints: g.endpoints, Err: errors.Join(failures...)}
}

// final returns the error if no other endpoint would help.
func final(err error) error {
	var status *statusError
	switch {
	case !errors.As(err, &status):
		return nil
	case strings.Contains(status.Message, "too large"), strings.Contains(status.Message, "larger than max"):
		return &TooLargeError{Err: err}
	case status.Status >= http.StatusInternalServerError, status.Status == http.StatusTooManyRequests:
		return nil
	}
	return fmt.Errorf("asking etcd: %w", err)
}

// authorized sends a request with the token of the session; a token that is no
// longer known is replaced once.
func (g *gateway) authorized(ctx context.Context, endpoint, path string, body []byte, answer any) error {
	for renewed := false; ; renewed = true {
		token, err := g.token(ctx, endpoint, renewed)
		if err != nil {
			return err
		}
		err = g.send(ctx, endpoint+path, token, body, answer)
		var status *statusError
		if g.user == "" || renewed || !errors.As(err, &status) || !strings.Contains(status.Message, "invalid auth token") {
			return err
		}
	}
}

func (g *gateway) token(ctx context.Context, endpoint string, renew bool) (string, error) {
	if g.user == "" {
		return "", nil
	}
	g.session.Lock()
	defer g.session.Unlock()
	if g.session.token != "" && !renew {
		return g.session.token, nil
	}
	body, err := json.Marshal(map[string]string{"name": g.user, "password": g.password})
	if err != nil {
		return "", err
	}
	var answer struct {
		Token string `json:"token"`
	}
	if err := g.send(ctx, endpoint+"/v3/auth/authenticate", "", body, &answer); err != nil {
		return "", fmt.Errorf("logging in as %s: %w", g.user, err)
	}
	g.session.token = answer.Token
	return answer.Token, nil
}

// maxAnswer leaves room for an object, or for a page of events with bundles.
const maxAnswer = 64 << 20

func (g *gateway) send(ctx context.Context, target, token string, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var said struct {
			Error   string `json:"error"`
			Message string `json:"message"`
		}
		if json.Unmarshal(raw, &said) != nil || said.Error+said.Message == "" {
			said.Message = fmt.Sprintf("%.200q", raw)
		}
		return &statusError{Status: resp.StatusCode, Message: cmp.Or(said.Message, said.Error)}
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return fmt.Errorf("%s: an answer that is no JSON of etcd: %w", target, err)
	}
	return nil
}
