package sign

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Audience is whom an identity token has to be meant for: Sigstore's certificate
// authorities take no other.
const Audience = "sigstore"

// Token returns an OpenID Connect identity token that was issued just now, or is
// valid still.
type Token func(ctx context.Context) (string, error)

// TokenError means that there is no identity token that a certificate authority
// would take.
type TokenError struct {
	Problem string
	Advice  string
}

func (e *TokenError) Error() string { return "identity token: " + e.Problem }

// Hint says what to do.
func (e *TokenError) Hint() string { return e.Advice }

// Where the environment holds an identity token, or says who gives one: Sigstore's
// own variable, and those of a job of GitHub Actions with id-token: write.
const (
	tokenEnv        = "SIGSTORE_ID_TOKEN"
	requestURLEnv   = "ACTIONS_ID_TOKEN_REQUEST_URL"
	requestTokenEnv = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
)

// AmbientToken is the identity that the environment gives to this process: the
// token in SIGSTORE_ID_TOKEN, else that of the job of GitHub Actions. If there is
// neither, the error is a *TokenError at once.
func AmbientToken(getenv func(string) string) (Token, error) {
	switch {
	case getenv(tokenEnv) != "":
		raw := strings.TrimSpace(getenv(tokenEnv))
		return func(context.Context) (string, error) { return raw, checkToken(raw, tokenEnv, time.Now()) }, nil
	case getenv(requestURLEnv) != "" && getenv(requestTokenEnv) != "":
		return func(ctx context.Context) (string, error) {
			raw, err := requestToken(ctx, getenv(requestURLEnv), getenv(requestTokenEnv))
			if err != nil {
				return "", err
			}
			return raw, checkToken(raw, "GitHub's answer", time.Now())
		}, nil
	case getenv("GITHUB_ACTIONS") == "true":
		return nil, &TokenError{
			"this job may not ask for one",
			"give the job `permissions: {id-token: write}`; pull requests from forks never get one",
		}
	}
	return nil, &TokenError{
		"there is none: neither " + tokenEnv + " nor " + requestURLEnv + " is set",
		"run this in GitHub Actions with `permissions: {id-token: write}`, put a token for the audience " + Audience + " into " + tokenEnv + ", or sign with a key: remove sign.keyless",
	}
}

// requestToken asks GitHub for the token of this job.
func requestToken(ctx context.Context, from, bearer string) (string, error) {
	u, err := url.Parse(from)
	if err != nil || u.Host == "" {
		return "", &TokenError{requestURLEnv + " is no URL", "it is set by GitHub Actions, and by nobody else"}
	}
	q := u.Query()
	q.Set("audience", Audience)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", fmt.Errorf("asking for an identity token: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := authorityClient(ctx, "identity provider").Do(req)
	if err != nil {
		return "", fmt.Errorf("asking for an identity token: %w", bare(err))
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	var answer struct{ Value string }
	if err == nil {
		err = json.Unmarshal(raw, &answer)
	}
	if err != nil {
		return "", fmt.Errorf("asking for an identity token: reading the answer: %w", err)
	}
	return answer.Value, nil
}

// checkToken says early and clearly what the authority would say late: it alone
// checks the signature.
func checkToken(raw, from string, now time.Time) error {
	var claims struct {
		Audience audiences `json:"aud"`
		Expires  float64   `json:"exp"`
	}
	parts := strings.Split(raw, ".")
	err := errors.New("three parts with dots between them are wanted")
	if len(parts) == 3 {
		var payload []byte
		if payload, err = base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
			err = json.Unmarshal(payload, &claims)
		}
	}
	expires := time.Unix(int64(claims.Expires), 0).UTC()
	switch {
	case err != nil: // the token itself is a secret
		return &TokenError{from + " holds no JSON Web Token", "it has three parts with dots between them, as an OpenID Connect provider gives it"}
	case !slices.Contains(claims.Audience, Audience):
		return &TokenError{fmt.Sprintf("the one in %s is for the audience %q, want %q", from, strings.Join(claims.Audience, ", "), Audience), "ask the provider for a token with the audience " + Audience}
	case !expires.After(now):
		return &TokenError{fmt.Sprintf("the one in %s expired at %s", from, expires.Format(time.RFC3339)), "ask the provider for another one, right before signing: they live for minutes"}
	}
	return nil
}

// audiences is one name or a list of them (RFC 7519, section 4.1.3).
type audiences []string

// UnmarshalJSON accepts both.
func (a *audiences) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*a = audiences{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(a))
}
