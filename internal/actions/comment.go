package actions

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
	"strings"
	"time"
)

// request is a pull request, and how to speak there.
type request struct {
	api, repository, number, token string
}

var pullRef = regexp.MustCompile(`^refs/pull/([0-9]+)/`)

func requestFrom(getenv func(string) string) request {
	r := request{api: getenv("GITHUB_API_URL"), repository: getenv("GITHUB_REPOSITORY"), token: getenv("GITHUB_TOKEN")}
	if m := pullRef.FindStringSubmatch(getenv("GITHUB_REF")); m != nil {
		r.number = m[1]
	}
	return r
}

// DeniedError means that the token of the job may not comment.
type DeniedError struct{ Status int }

func (e *DeniedError) Error() string {
	return fmt.Sprintf("commenting on the pull request: GitHub refuses (%d)", e.Status)
}

// Hint says what would be right.
func (e *DeniedError) Hint() string {
	return "give the job `permissions: {pull-requests: write}` and the step GITHUB_TOKEN; the token of a fork may never write"
}

// Comment says something on the pull request that the job is about; it does
// nothing if there is none. One subject is one comment: what was said before about
// the same subject is replaced.
func (j *Job) Comment(ctx context.Context, subject string, markdown []byte) error {
	if j == nil || j.request.number == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	mark := "<!-- sluice: " + subject + " -->"
	const most = 60000 // GitHub takes 65 536 characters
	if len(markdown) > most {
		markdown = append(bytes.ToValidUTF8(markdown[:most], nil), "\n\n… cut, the summary of the job has the rest\n"...)
	}
	body, err := json.Marshal(map[string]string{"body": mark + "\n" + string(markdown)})
	if err != nil {
		return fmt.Errorf("commenting on the pull request: %w", err)
	}
	said, err := j.request.find(ctx, mark)
	if err != nil {
		return err
	}
	if said != 0 {
		return j.request.do(ctx, http.MethodPatch, fmt.Sprintf("issues/comments/%d", said), body, nil)
	}
	return j.request.do(ctx, http.MethodPost, "issues/"+j.request.number+"/comments", body, nil)
}

// find returns the comment that begins with the mark, or 0.
func (r request) find(ctx context.Context, mark string) (int64, error) {
	const each = 100
	for page := 1; ; page++ {
		var list []struct {
			ID   int64
			Body string
		}
		if err := r.do(ctx, http.MethodGet, fmt.Sprintf("issues/%s/comments?per_page=%d&page=%d", r.number, each, page), nil, &list); err != nil {
			return 0, err
		}
		for _, c := range list {
			if strings.HasPrefix(c.Body, mark) {
				return c.ID, nil
			}
		}
		if len(list) < each {
			return 0, nil
		}
	}
}

func (r request) do(ctx context.Context, method, path string, body []byte, into any) error {
	if r.token == "" {
		return &DeniedError{http.StatusUnauthorized}
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(r.api, "/")+"/repos/"+r.repository+"/"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("commenting on the pull request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	req.Header.Set("Accept", "application/vnd.github+json")
	client := http.Client{Timeout: 30 * time.Second}
	resp, err := client.Do(req)
	if at := (*url.Error)(nil); errors.As(err, &at) {
		return fmt.Errorf("commenting on the pull request: %w", at.Err)
	} else if err != nil {
		return fmt.Errorf("commenting on the pull request: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 32<<20))
	switch {
	case err != nil:
		return fmt.Errorf("commenting on the pull request: reading the answer: %w", err)
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusNotFound:
		return &DeniedError{resp.StatusCode}
	case resp.StatusCode >= 300:
		return fmt.Errorf("commenting on the pull request: GitHub answers %s", resp.Status)
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("commenting on the pull request: reading the answer: %w", err)
	}
	return nil
}
