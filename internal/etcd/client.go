// Package etcd speaks to etcd through its JSON gateway: ranges and transactions,
// which is all that a history or a ledger needs.
//
// It takes nothing but the standard library, so that a privileged process can
// link it. A call asks the endpoints in turn, has a deadline, and says as a typed
// error whether etcd was away ([UnavailableError]) or does not take what it was
// sent ([TooLargeError]). Plain HTTP is refused but for etcd on the same machine.
package etcd

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

// Config says how to reach etcd. Only Endpoints is required.
type Config struct {
	Endpoints []string      // https://host:2379; tried in turn
	TLS       *tls.Config   // nil: the certificates of the system
	User      string        // "": no log-in by password
	Password  string        //
	Timeout   time.Duration // of one operation, all endpoints together; 0: 5 s
}

// DefaultTimeout bounds an operation when Config.Timeout is zero.
const DefaultTimeout = 5 * time.Second

// Client calls etcd's JSON gateway. It may be used by several goroutines.
type Client struct {
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

// New makes a client; nothing is sent yet.
func New(cfg Config) (*Client, error) {
	c := &Client{user: cfg.User, password: cfg.Password, timeout: cmp.Or(cfg.Timeout, DefaultTimeout), session: &session{}}
	for _, e := range cfg.Endpoints {
		u, err := url.Parse(e)
		switch {
		case err != nil:
			return nil, err
		case u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
			return nil, fmt.Errorf("endpoint %q, want https://host:port", e)
		case u.Scheme == "http" && !loopback(u.Hostname()):
			return nil, fmt.Errorf("endpoint %q: plain HTTP is for etcd on this machine only, want https://", e)
		}
		c.endpoints = append(c.endpoints, u.Scheme+"://"+u.Host)
	}
	if len(c.endpoints) == 0 {
		return nil, errors.New("no endpoint, want https://host:port")
	}
	c.client = &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:     cfg.TLS,
			DialContext:         (&net.Dialer{Timeout: c.timeout / 2}).DialContext,
			TLSHandshakeTimeout: c.timeout / 2,
			IdleConnTimeout:     time.Minute,
			TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/2 would hide why a certificate was refused
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // credentials stay where they are
	}
	return c, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Timeout is that of one operation.
func (c *Client) Timeout() time.Duration { return c.timeout }

// Range reads keys.
func (c *Client) Range(ctx context.Context, ask RangeRequest) (answer RangeAnswer, err error) {
	return answer, c.call(ctx, "/v3/kv/range", ask, &answer)
}

// Txn carries out one branch of a transaction. If the error is an
// *UnavailableError it may have been carried out all the same.
func (c *Client) Txn(ctx context.Context, ask TxnRequest) (answer TxnAnswer, err error) {
	return answer, c.call(ctx, "/v3/kv/txn", ask, &answer)
}

// Close drops idle connections.
func (c *Client) Close() error {
	c.client.CloseIdleConnections()
	return nil
}

// call asks the endpoints in turn until one answers.
func (c *Client) call(ctx context.Context, path string, ask, answer any) error {
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var failures []error
	for _, endpoint := range c.endpoints {
		// An endpoint that hangs must not use up the time of the others.
		one, cancel := context.WithTimeout(ctx, c.timeout/time.Duration(len(c.endpoints)))
		err := c.authorized(one, endpoint, path, body, answer)
		cancel()
		if err == nil {
			return nil
		}
		if err := final(err); err != nil {
			return err
		}
		failures = append(failures, err)
	}
	return &UnavailableError{Endpoints: c.endpoints, Err: errors.Join(failures...)}
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
func (c *Client) authorized(ctx context.Context, endpoint, path string, body []byte, answer any) error {
	for renewed := false; ; renewed = true {
		token, err := c.token(ctx, endpoint, renewed)
		if err != nil {
			return err
		}
		err = c.send(ctx, endpoint+path, token, body, answer)
		var status *statusError
		if c.user == "" || renewed || !errors.As(err, &status) || !strings.Contains(status.Message, "invalid auth token") {
			return err
		}
	}
}

func (c *Client) token(ctx context.Context, endpoint string, renew bool) (string, error) {
	if c.user == "" {
		return "", nil
	}
	c.session.Lock()
	defer c.session.Unlock()
	if c.session.token != "" && !renew {
		return c.session.token, nil
	}
	body, err := json.Marshal(map[string]string{"name": c.user, "password": c.password})
	if err != nil {
		return "", err
	}
	var answer struct {
		Token string `json:"token"`
	}
	if err := c.send(ctx, endpoint+"/v3/auth/authenticate", "", body, &answer); err != nil {
		return "", fmt.Errorf("logging in as %s: %w", c.user, err)
	}
	c.session.token = answer.Token
	return answer.Token, nil
}

// maxAnswer leaves room for an object, or for a page of events with bundles.
const maxAnswer = 64 << 20

func (c *Client) send(ctx context.Context, target, token string, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	resp, err := c.client.Do(req)
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
