package sign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// AuthorityError means that somebody whose word a signature needs does not give
// it.
type AuthorityError struct {
	Who    string // "certificate authority", "transparency log", …
	URL    string
	Status int // of the answer; 0: there was none
	Err    error
}

func (e *AuthorityError) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("the %s %s cannot be reached: %v", e.Who, e.URL, e.Err)
	}
	return fmt.Sprintf("the %s %s refuses (%d): %v", e.Who, e.URL, e.Status, e.Err)
}

// Unwrap returns the cause.
func (e *AuthorityError) Unwrap() error { return e.Err }

// Temporary reports that the same request may be granted later.
func (e *AuthorityError) Temporary() bool {
	return e.Status == 0 || e.Status == http.StatusTooManyRequests || e.Status >= http.StatusInternalServerError
}

// Hint says what to try.
func (e *AuthorityError) Hint() string {
	if e.Temporary() {
		return "nothing was signed: try again when it is up, or check its URL below sign.keyless"
	}
	return "nothing was signed: does the " + e.Who + " know the issuer of the token (see sign.keyless)?"
}

const (
	authorityPatience = 30 * time.Second
	authorityTries    = 3
	maxAnswer         = 4 << 20
)

// authorityClient talks to one authority, and gives up when ctx is done.
func authorityClient(ctx context.Context, who string) *http.Client {
	return &http.Client{Timeout: authorityPatience, Transport: authorityTransport{ctx, who}}
}

// authorityTransport asks again where that may help, and turns every answer that
// is none into an *AuthorityError. sigstore-go's requests know no context; this
// brings them one.
type authorityTransport struct {
	ctx context.Context
	who string
}

// RoundTrip reads the whole answer, so that no body is left open.
func (t authorityTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	defer cancel(nil)
	defer context.AfterFunc(t.ctx, func() { cancel(t.ctx.Err()) })()
	for try := 1; ; try++ {
		resp, failure := t.once(req.Clone(ctx))
		switch {
		case failure == nil:
			return resp, nil
		case ctx.Err() != nil && t.ctx.Err() != nil:
			return nil, t.ctx.Err()
		case !failure.Temporary() || try == authorityTries || ctx.Err() != nil:
			return nil, failure
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(try) * 500 * time.Millisecond):
		}
	}
}

func (t authorityTransport) once(req *http.Request) (*http.Response, *AuthorityError) {
	failure := &AuthorityError{Who: t.who, URL: (&url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host}).String()}
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			failure.Err = err
			return nil, failure
		}
		req.Body = body
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		failure.Err = err
		return nil, failure
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		failure.Err = err
		return nil, failure
	case resp.StatusCode >= 300:
		failure.Status, failure.Err = resp.StatusCode, errors.New(answerText(raw))
		return nil, failure
	}
	resp.Body = io.NopCloser(bytes.NewReader(raw))
	return resp, nil
}

// answerText is what an authority says about a request that it refuses.
func answerText(raw []byte) string {
	var problem struct{ Message string }
	text := string(raw)
	if json.Unmarshal(raw, &problem) == nil && problem.Message != "" {
		text = problem.Message
	}
	text = strings.Join(strings.Fields(text), " ")
	if text == "" {
		return "it does not say why"
	}
	const most = 300
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + " …"
	}
	return text
}

// bare takes off what net/http puts around an error of ours.
func bare(err error) error {
	var of *AuthorityError
	if errors.As(err, &of) {
		return of
	}
	var at *url.Error
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// rekorStatus finds the status in an error of Rekor's client, which has many
// types for it: "[POST /api/v1/log/entries][400] createLogEntryBadRequest {…}".
var rekorStatus = regexp.MustCompile(`(?s)\]\[(\d{3})\] ?\w* *(.*)`)

func rekorError(at string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	failure := &AuthorityError{Who: "transparency log", URL: at, Err: bare(err)}
	if m := rekorStatus.FindStringSubmatch(err.Error()); m != nil {
		failure.Status, _ = strconv.Atoi(m[1])
		failure.Err = errors.New(answerText([]byte(m[2])))
	}
	return failure
}
