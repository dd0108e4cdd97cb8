package etcd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
)

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

// TooLargeError means that etcd does not take a value of this size.
type TooLargeError struct{ Err error }

func (e *TooLargeError) Error() string { return fmt.Sprintf("too large for etcd: %v", e.Err) }

func (e *TooLargeError) Unwrap() error { return e.Err }

// Hint says what limits it.
func (e *TooLargeError) Hint() string {
	return "etcd takes requests of up to 1.5 MiB unless it is started with another --max-request-bytes"
}

// statusError is an answer of the gateway that is no success.
type statusError struct {
	Status  int
	Message string
}

func (e *statusError) Error() string { return fmt.Sprintf("%s (HTTP status %d)", e.Message, e.Status) }
