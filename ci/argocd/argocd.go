// Package argocd lets Argo CD sync an application, over its HTTP interface, and
// waits until the sync has ended.
//
// A sync that fails is a result. An error means that it is not known how the
// sync ended. Whether a release is good is decided by the application's own hooks.
//
// sluice-argo sync (deploy/argocd/operation) goes by the same rules: what it joins,
// what it waits for, and whose verdict counts. There are two because that one needs
// the Kubernetes API and Argo CD's own types, and this one has neither: a pipeline
// has an address and a token of Argo CD, and Dagger reads a Go module from one folder
// only. testdata/applications.json is the table that holds both to the rules.
package argocd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	askTimeout = 30 * time.Second
	maxBody    = 8 << 20
)

// Options says where Argo CD is. Server and Token are needed.
type Options struct {
	Server string // https://argocd.example.com
	Token  string
	CA     string        // PEM of who vouches for the server; empty: those of the system
	Dial   string        // HOST:PORT to connect to in the place of the server's
	Every  time.Duration // between two looks; zero: 2 s
}

// Application is one of Argo CD's. An empty namespace is Argo CD's own.
type Application struct{ Name, Namespace string }

// Result is how a sync ended.
type Result struct {
	Phase    string // Succeeded, Failed or Error
	Message  string
	Revision string // the commit that was synced
	Verdict  string // of the hooks of this sync; empty if they wrote none
	Reason   string
	Release  string // that was judged
	Sync     string // Synced, OutOfSync
	Health   string // Healthy, Degraded, …
}

// Client talks to one Argo CD.
type Client struct {
	base  *url.URL
	token string
	every time.Duration
	http  *http.Client
}

// New refuses options that cannot work.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.Server)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("server %q is no address (write https://argocd.example.com)", o.Server)
	}
	if strings.TrimSpace(o.Token) == "" {
		return nil, errors.New("the token is empty: give one of an account that may sync, for example --token=env:ARGOCD_AUTH_TOKEN")
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	if o.CA != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(o.CA)) {
			return nil, errors.New("the file of --ca holds no certificate in PEM form")
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if o.Dial != "" {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, o.Dial)
		}
	}
	if o.Every <= 0 {
		o.Every = 2 * time.Second
	}
	return &Client{base, strings.TrimSpace(o.Token), o.Every, &http.Client{Transport: t, Timeout: askTimeout}}, nil
}

// Sync starts a sync to a revision, or to the commit that the application asks for
// by now, and waits for its end. A sync of the same that is under way is joined; one of
// another revision is waited for first. The context limits how long.
func (c *Client) Sync(ctx context.Context, app Application, revision string) (Result, error) {
	if app.Name == "" {
		return Result{}, errors.New("no application: give its name with --app")
	}
	now, err := c.look(ctx, app)
	if err != nil {
		return Result{}, err
	}
	commit := revision
	if commit == "" {
		commit = c.newest(ctx, app)
	}
	var previous time.Time
	for asked := false; ; {
		if !asked {
			previous = now.previous()
		}
		switch {
		case asked && now.done(previous):
			return now.result(), nil
		case asked:
		case now.busy():
			asked = now.same(commit)
		default:
			if asked, err = c.ask(ctx, app, now, revision); err != nil {
				return Result{}, err
			}
		}
		if now, err = c.next(ctx, app, now); err != nil {
			return Result{}, err
		}
	}
}

// newest lets Argo CD look at git, and returns the commit that the application asks
// for by then: whoever has just pushed a release is not to be told the verdict on the
// one before, whose sync is under way. It is empty if Argo CD cannot say.
func (c *Client) newest(ctx context.Context, app Application) string {
	address := c.path(app, "") + "?refresh=normal"
	if app.Namespace != "" {
		address = c.path(app, "") + "&refresh=normal"
	}
	var s state
	if err := c.do(ctx, http.MethodGet, address, nil, &s); err != nil {
		return ""
	}
	return s.Status.Sync.Revision
}

// ask starts a sync as Argo CD would by itself. It is false if somebody was faster.
func (c *Client) ask(ctx context.Context, app Application, now state, revision string) (bool, error) {
	body := map[string]any{"name": app.Name, "strategy": map[string]any{"hook": struct{}{}}}
	if app.Namespace != "" {
		body["appNamespace"] = app.Namespace
	}
	if revision != "" {
		body["revision"] = revision
	}
	if now.Spec.SyncPolicy.Automated.Prune { // the only part of the policy that Argo CD's server leaves to its callers
		body["prune"] = true
	}
	err := c.do(ctx, http.MethodPost, c.path(app, "/sync"), body, nil)
	var refused *refusedError
	if errors.As(err, &refused) && strings.Contains(refused.text, "another operation is already in progress") {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("starting the sync of %s: %w", app.Name, err)
	}
	return true, nil
}

// next looks again after a while, patiently: Argo CD restarts, too.
func (c *Client) next(ctx context.Context, app Application, last state) (state, error) {
	for trouble := error(nil); ; {
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("the sync of %s did not end in time (%s): %w",
				app.Name, last.describe(), errors.Join(ctx.Err(), trouble))
		case <-time.After(c.every):
		}
		now, err := c.look(ctx, app)
		var refused *refusedError
		if err == nil || errors.As(err, &refused) {
			return now, err
		}
		trouble = err
	}
}

func (c *Client) look(ctx context.Context, app Application) (state, error) {
	var s state
	err := c.do(ctx, http.MethodGet, c.path(app, ""), nil, &s)
	if err != nil {
		err = fmt.Errorf("looking at application %s: %w", app.Name, err)
	}
	return s, err
}

func (c *Client) path(app Application, what string) string {
	u := *c.base
	u.Path = strings.TrimSuffix(u.Path, "/") + "/api/v1/applications/" + app.Name + what
	if app.Namespace != "" {
		u.RawQuery = url.Values{"appNamespace": {app.Namespace}}.Encode()
	}
	return u.String()
}

// refusedError is an answer that will not change by waiting.
type refusedError struct {
	status int
	text   string
}

func (e *refusedError) Error() string {
	switch e.status {
	case http.StatusUnauthorized:
		return "Argo CD does not know the token (make one with argocd account generate-token)"
	case http.StatusForbidden:
		return "the token's account may not do this: " + e.text + " (it needs get and sync on the application)"
	case http.StatusNotFound:
		return "there is no such application: " + e.text
	}
	return fmt.Sprintf("Argo CD answers %d: %s", e.status, e.text)
}

func (c *Client) do(ctx context.Context, method, address string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode >= 500 {
		return fmt.Errorf("asking Argo CD: it answers %d: %s", resp.StatusCode, message(raw))
	}
	if resp.StatusCode != http.StatusOK {
		return &refusedError{resp.StatusCode, message(raw)}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

// message is the text of an error of Argo CD.
func message(raw []byte) string {
	var e struct{ Message string }
	if json.Unmarshal(raw, &e) == nil && e.Message != "" {
		return e.Message
	}
	const most = 200
	if len(raw) > most {
		raw = raw[:most]
	}
	return strings.TrimSpace(string(raw))
}
