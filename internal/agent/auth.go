package agent

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
)

// Allow says who may write: load another object, roll back. Root may, over a
// Unix socket; nobody may over plain TCP.
type Allow struct {
	UIDs   []uint32 // over a Unix socket, by the kernel's word
	SPIFFE []string // over TLS, by the one URI of a verified certificate; * stands for what is between two slashes
	DNS    []string // over TLS, by a name of a verified certificate
}

// Check reports patterns that can match nothing.
func (a Allow) Check() error {
	for _, pattern := range a.SPIFFE {
		if !strings.HasPrefix(pattern, "spiffe://") {
			return fmt.Errorf("--allow-spiffe-id %q, want spiffe://TRUST-DOMAIN/PATH", pattern)
		}
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("--allow-spiffe-id %q: %w", pattern, err)
		}
	}
	for _, name := range a.DNS {
		if name == "" || strings.Contains(name, "*") {
			return fmt.Errorf("--allow-dns %q, want a whole name", name)
		}
	}
	return nil
}

// ForbiddenError says why a request was refused.
type ForbiddenError struct{ Why, Advice string }

func (e *ForbiddenError) Error() string { return "not allowed: " + e.Why }

// Hint says who would be allowed.
func (e *ForbiddenError) Hint() string { return e.Advice }

// mayWrite returns nil if who sent the request may change something.
func (a Allow) mayWrite(r *http.Request) error {
	if peer, ok := r.Context().Value(peerKey{}).(*conn); ok && peer.local {
		if peer.uid == 0 || slices.Contains(a.UIDs, peer.uid) {
			return nil
		}
		return &ForbiddenError{fmt.Sprintf("user %d may read only", peer.uid), "the daemon lets user 0 write, and those named by --writer-uid"}
	}
	leaf := certificate(r)
	if leaf == nil {
		return &ForbiddenError{
			"writing needs the Unix socket or TLS with a client certificate",
			"use unix:/run/sluice-probe.sock on the node, or start the daemon with --tls-client-ca and --allow-spiffe-id",
		}
	}
	if err := a.names(leaf); err != nil {
		return &ForbiddenError{err.Error(), "the daemon lets those write who are named by --allow-spiffe-id or --allow-dns"}
	}
	return nil
}

// certificate is what the client has proven to be, by a chain to the
// authorities of clients; nil if it has not.
func certificate(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return nil
	}
	return r.TLS.VerifiedChains[0][0]
}

// names returns nil if a certificate has an allowed name. A SPIFFE certificate
// has exactly one URI (X.509-SVID, section 2).
func (a Allow) names(leaf *x509.Certificate) error {
	if len(leaf.URIs) == 1 {
		id := leaf.URIs[0].String()
		for _, pattern := range a.SPIFFE {
			if ok, err := path.Match(pattern, id); err == nil && ok {
				return nil
			}
		}
	}
	for _, name := range leaf.DNSNames {
		if slices.ContainsFunc(a.DNS, func(allowed string) bool { return strings.EqualFold(allowed, name) }) {
			return nil
		}
	}
	switch {
	case len(leaf.URIs) == 1:
		return fmt.Errorf("the certificate is of %s", leaf.URIs[0])
	case len(leaf.URIs) > 1:
		return errors.New("the certificate has more than one URI")
	}
	return fmt.Errorf("the certificate is of %q", leaf.DNSNames)
}
