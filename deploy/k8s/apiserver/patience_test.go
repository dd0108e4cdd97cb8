package apiserver

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestWhatAnAPIServerSaysWhileItStartsIsRepeated(t *testing.T) {
	var (
		gone      = error(&url.Error{Op: "Get", URL: "https://127.0.0.1:6443", Err: syscall.ECONNREFUSED})
		busy      = error(apierrors.NewTooManyRequests("later", 1))
		forbidden = error(apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, "shop", errors.New("no role")))
		stranger  = error(&url.Error{Op: "Get", Err: &tls.CertificateVerificationError{Err: errors.New("unknown authority")}})
		plain     = error(&url.Error{Op: "Get", Err: http.ErrSchemeMismatch})
		nowhere   = error(&url.Error{Op: "parse", URL: "https://api:port", Err: errors.New("invalid port")})
		long      = error(&tooLongError{1})
		list      = json.Unmarshal([]byte("[]"), new(struct{}))
		missing   = error(apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, "shop"))
		garbled   = json.Unmarshal([]byte("<html>"), new(any))
		notReady  = error(apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("caches are not yet ready")))
	)
	for name, tt := range map[string]struct {
		answers []error
		tries   int
		err     error
	}{
		"it answers":                           {[]error{nil}, 1, nil},
		"it is away and comes back":            {[]error{gone, busy, nil}, 3, nil},
		"it comes back without its roles":      {[]error{gone, forbidden, forbidden, nil}, 4, nil},
		"its caches are empty":                 {[]error{notReady, nil}, 2, nil},
		"a permission lacks":                   {[]error{forbidden, nil}, 1, forbidden},
		"there is no such object":              {[]error{gone, missing, nil}, 2, missing},
		"another server has its address":       {[]error{stranger, nil}, 1, stranger},
		"it does not speak JSON":               {[]error{garbled, nil}, 1, garbled},
		"it speaks no TLS":                     {[]error{plain, nil}, 1, plain},
		"its address is none":                  {[]error{nowhere, nil}, 1, nowhere},
		"its answer is too long":               {[]error{long, nil}, 1, long},
		"its answer is something else":         {[]error{list, nil}, 1, list},
		"it is away for longer than there is.": {[]error{gone, gone, gone, gone, gone, gone}, 0, gone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
			defer cancel()
			tries := 0
			var o Outage
			err := Patiently(ctx, &o, func(context.Context) error {
				tries++
				return tt.answers[tries-1]
			})
			if tt.tries > 0 && tries != tt.tries || !errors.Is(err, tt.err) {
				t.Errorf("%v after %d tries, want %v after %d", err, tries, tt.err, tt.tries)
			}
		})
	}
}

func TestAnOutageIsRememberedByTheNextCall(t *testing.T) {
	var o Outage
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "leases"}, "shop", errors.New("no role"))
	if o.Passing(forbidden) {
		t.Error("a permission that lacks is said to come by itself")
	}
	if !o.Passing(syscall.ECONNREFUSED) || !o.Passing(forbidden) {
		t.Error("after an outage a refusal is taken for the last word")
	}
	o.last.Add(-comingUp.Nanoseconds())
	if o.Passing(forbidden) {
		t.Error("an outage is never over")
	}
}
