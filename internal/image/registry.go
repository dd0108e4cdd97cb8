package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// RegistryError reports a push that did not get through.
type RegistryError struct {
	Host string
	Ref  string
	Err  error
}

// Error names the reference, and with it the host.
func (e *RegistryError) Error() string { return fmt.Sprintf("pushing to %s: %v", e.Ref, e.Err) }

// Unwrap gives the cause.
func (e *RegistryError) Unwrap() error { return e.Err }

// Temporary reports whether the same push may succeed later: the registry is
// down, slow or overloaded, not unwilling.
func (e *RegistryError) Temporary() bool {
	return mayPass(e.Err) || errors.Is(e.Err, context.DeadlineExceeded)
}

// Hint says what would help.
func (e *RegistryError) Hint() string {
	var plain *PlainHTTPError
	var answer *transport.Error
	var damage *DigestError
	switch {
	case errors.As(e.Err, &damage):
		return damage.Hint()
	case errors.As(e.Err, &plain):
		return plain.Hint()
	case errors.As(e.Err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		return "log in first: docker login " + e.Host
	case e.Temporary():
		return "see whether " + e.Host + " is up, then publish again: what has arrived is not sent twice"
	}
	return ""
}

// timeoutError is the end of PushOptions.Timeout.
type timeoutError time.Duration

func (e timeoutError) Error() string        { return fmt.Sprintf("no end after %v", time.Duration(e)) }
func (e timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// PlainHTTPError reports that plain HTTP was about to be used, or was asked
// for, where it may not be.
type PlainHTTPError struct {
	Host     string
	Insecure bool // asked for
}

// Error names the host.
func (e *PlainHTTPError) Error() string { return fmt.Sprintf("plain HTTP to %s is refused", e.Host) }

// Hint says where plain HTTP is possible.
func (e *PlainHTTPError) Hint() string {
	if e.Insecure || !loopback(e.Host) {
		return "insecure is for registries on this machine; give the registry a certificate"
	}
	return "set insecure for a registry on this machine without certificate"
}

// guard lets plain HTTP through only where it is wanted. The registry client
// would fall back to it for private addresses by itself.
type guard struct {
	base     *http.Transport
	insecure bool
}

// RoundTrip refuses with *PlainHTTPError, or hands on.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !(g.insecure && loopback(r.URL.Host)) {
		return nil, &PlainHTTPError{Host: r.URL.Host}
	}
	return g.base.RoundTrip(r)
}

// newTransport has a limit for every wait but that for an upload, which the
// limit of the push covers.
func newTransport(insecure bool) *guard {
	return &guard{insecure: insecure, base: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       10 * time.Second,
		MaxIdleConnsPerHost:   8,
		ForceAttemptHTTP2:     true,
	}}
}

// mayPass reports whether a failure may be gone a moment later.
func mayPass(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var answer *transport.Error
	if errors.As(err, &answer) {
		return answer.Temporary() || answer.StatusCode >= http.StatusInternalServerError || answer.StatusCode == http.StatusTooManyRequests
	}
	for _, target := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, target) {
			return true
		}
	}
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}
