package apiserver

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// comingUp is how long an API server that was away may refuse what it will
// allow, because it does not know its roles and accounts yet.
const comingUp = 10 * time.Second

// Patiently makes a call of the API server, again and again while it is away,
// busy or coming up, until ctx ends; without a deadline for 20 seconds. The error
// is what it said last, and why there was no other try. Conflicts are the
// caller's business. o remembers the outage for the calls that follow.
func Patiently(ctx context.Context, o *Outage, try func(context.Context) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, Patience)
		defer cancel()
	}
	var last error // what the API server said, which tells more than a deadline
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if !o.Passing(err) {
			return err
		}
		select {
		case <-time.After(pause):
			continue
		case <-ctx.Done():
		}
		if errors.Is(last, ctx.Err()) {
			return last
		}
		return fmt.Errorf("%w (%w)", last, context.Cause(ctx))
	}
}

// Outage knows when an API server was away last. The zero value is that of one
// that never was. It may be used by several goroutines.
type Outage struct{ last atomic.Int64 } // in Unix nanoseconds

// Passing reports whether an error of a call may be gone at the next try.
func (o *Outage) Passing(err error) bool {
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		return starting(err) || time.Now().UnixNano()-o.last.Load() < comingUp.Nanoseconds()
	}
	if !passing(err) {
		return false
	}
	o.suspect()
	return true
}

// suspect takes the API server for one that has just been away.
func (o *Outage) suspect() { o.last.Store(time.Now().UnixNano()) }

// starting is what an API server says whose caches are still empty.
func starting(err error) bool { return strings.Contains(err.Error(), "not yet ready") }

// passing is about what is not a matter of permissions.
func passing(err error) bool {
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		code := status.Status().Code
		return code == http.StatusTooManyRequests || code >= http.StatusInternalServerError
	}
	return !lasting(err) && !errors.Is(err, context.Canceled)
}

// lasting reports whether the next try ends like this one: the address is none,
// whoever has it is no API server or not ours, or its answer is none or too long.
func lasting(err error) bool {
	var stranger *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	var garbled *json.SyntaxError
	var other *json.UnmarshalTypeError
	var address *url.Error
	var long *tooLongError
	return errors.As(err, &stranger) || errors.As(err, &plain) || errors.As(err, &garbled) || errors.As(err, &other) || errors.As(err, &long) ||
		errors.As(err, &address) && (address.Op == "parse" || errors.Is(err, http.ErrSchemeMismatch))
}
