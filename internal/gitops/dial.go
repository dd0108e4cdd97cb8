package gitops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/file"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"golang.org/x/crypto/ssh"
)

// dialTimeout bounds a connection and a handshake.
const dialTimeout = 10 * time.Second

// withoutCredentials takes a name and password out of a URL, so that neither is
// ever in a message.
func withoutCredentials(raw string, auth Auth) (string, Auth, error) {
	u, err := url.Parse(raw)
	if err != nil && strings.Contains(raw, "://") {
		// What does not parse may hold a password, and so may the error.
		return "", auth, errors.New("the URL of the repository cannot be read: leave user and password out of it")
	}
	if err != nil || u.Host == "" || u.User == nil {
		if raw == "" {
			return "", auth, fmt.Errorf("the repository has no URL")
		}
		return raw, auth, nil
	}
	password, _ := u.User.Password()
	auth.Username, auth.Password = cmp.Or(auth.Username, u.User.Username()), cmp.Or(auth.Password, password)
	u.User = nil
	return u.String(), auth, nil
}

// dialer opens sessions with a server.
type dialer struct {
	endpoint  *transport.Endpoint
	auth      transport.AuthMethod
	transport transport.Transport
}

func newDialer(repo Repo) (dialer, error) {
	endpoint, err := transport.NewEndpoint(repo.URL)
	if err != nil {
		return dialer{}, fmt.Errorf("repository %q: %w", repo.URL, err)
	}
	d := dialer{endpoint: endpoint}
	switch endpoint.Protocol {
	case "http", "https":
		endpoint.CaBundle = repo.Auth.CA
		d.transport = githttp.NewClient(&http.Client{Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout: dialTimeout,
			IdleConnTimeout:     dialTimeout,
			ForceAttemptHTTP2:   true,
		}})
		if repo.Auth.Username != "" || repo.Auth.Password != "" {
			// A token alone goes as a password; servers want some name with it.
			d.auth = &githttp.BasicAuth{Username: cmp.Or(repo.Auth.Username, "git"), Password: repo.Auth.Password}
		}
	case "ssh":
		d.transport = gitssh.DefaultClient
		d.auth, err = sshMethod(endpoint, repo.Auth)
	case "file":
		d.transport = file.DefaultClient
	default:
		err = fmt.Errorf("repository %q: unknown protocol %q (known: https, http, ssh, file)", repo.URL, endpoint.Protocol)
	}
	return d, err
}

// sshAuth logs in with a limit for the connection.
type sshAuth struct{ gitssh.AuthMethod }

// ClientConfig is that of the method.
func (a sshAuth) ClientConfig() (*ssh.ClientConfig, error) {
	conf, err := a.AuthMethod.ClientConfig()
	if err == nil {
		conf.Timeout = dialTimeout
	}
	return conf, err
}

func sshMethod(endpoint *transport.Endpoint, auth Auth) (transport.AuthMethod, error) {
	user := cmp.Or(auth.Username, endpoint.User, "git")
	helper := gitssh.HostKeyCallbackHelper{}
	if auth.KnownHosts != "" {
		db, err := gitssh.NewKnownHostsDb(auth.KnownHosts)
		if err != nil {
			return nil, fmt.Errorf("reading the server's SSH keys in %s: %w", auth.KnownHosts, err)
		}
		helper.HostKeyCallback = db.HostKeyCallback()
		helper.HostKeyAlgorithms = db.HostKeyAlgorithms(net.JoinHostPort(endpoint.Host, strconv.Itoa(cmp.Or(endpoint.Port, 22))))
	}
	if len(auth.SSHKey) == 0 {
		return sshAuth{&gitssh.Password{User: user, Password: auth.Password, HostKeyCallbackHelper: helper}}, nil
	}
	keys, err := gitssh.NewPublicKeys(user, auth.SSHKey, auth.Passphrase)
	if err != nil {
		return nil, fmt.Errorf("reading the SSH key: %w", err)
	}
	keys.HostKeyCallbackHelper = helper
	return sshAuth{keys}, nil
}

func (d dialer) fetch(ctx context.Context) (transport.UploadPackSession, error) {
	return within(ctx, func() (transport.UploadPackSession, error) { return d.transport.NewUploadPackSession(d.copy(), d.auth) })
}

func (d dialer) push(ctx context.Context) (transport.ReceivePackSession, error) {
	return within(ctx, func() (transport.ReceivePackSession, error) {
		return d.transport.NewReceivePackSession(d.copy(), d.auth)
	})
}

// copy: a session that is redirected changes its endpoint.
func (d dialer) copy() *transport.Endpoint {
	endpoint := *d.endpoint
	return &endpoint
}

// within gives up waiting when the context ends: a handshake over SSH has no
// deadline of its own.
func within[S interface{ Close() error }](ctx context.Context, dial func() (S, error)) (S, error) {
	type result struct {
		session S
		err     error
	}
	done := make(chan result, 1)
	go func() {
		s, err := dial()
		done <- result{s, err}
	}()
	select {
	case r := <-done:
		return r.session, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				_ = r.session.Close()
			}
		}()
		var none S
		return none, ctx.Err()
	}
}
