package gitops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/storage/memory"
)

// remote is a repository as its server showed it at one moment, and the objects
// fetched from it so far.
type remote struct {
	repo     Repo
	dial     dialer
	branch   string                   // that is meant
	refs     map[string]plumbing.Hash // full names
	peeled   map[string]plumbing.Hash // commits of annotated tags
	can      *capability.List
	sessions []io.Closer
	store    *memory.Storage
	deepened bool
}

// open asks the server for its branches and tags.
func open(ctx context.Context, repo Repo) (*remote, error) {
	dial, err := newDialer(repo)
	if err != nil {
		return nil, err
	}
	r := &remote{repo: repo, dial: dial, store: memory.NewStorage()}
	session, err := dial.fetch(ctx)
	if err != nil {
		return nil, explain(repo, reading, err)
	}
	r.sessions = append(r.sessions, session)
	adv, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		r.close()
		return nil, explain(repo, reading, err)
	}
	r.refs, r.peeled, r.can = adv.References, adv.Peeled, adv.Capabilities
	r.branch = repo.Branch
	if r.branch == "" {
		r.branch = defaultBranch(adv)
	}
	if r.branch == "" {
		r.close()
		return nil, &NotFoundError{URL: repo.URL, What: "default branch"}
	}
	return r, nil
}

// close ends every session. Sessions over HTTP hold nothing open.
func (r *remote) close() {
	for _, s := range r.sessions {
		_ = s.Close()
	}
}

// defaultBranch is what the server's HEAD points to.
func defaultBranch(adv *packp.AdvRefs) string {
	for _, ref := range adv.Capabilities.Get(capability.SymRef) {
		if name, ok := strings.CutPrefix(ref, "HEAD:refs/heads/"); ok {
			return name
		}
	}
	return ""
}

func (r *remote) has(hash plumbing.Hash) bool { return r.store.HasEncodedObject(hash) == nil }

// windows are how many commits of the branch are fetched when the server gives
// out only what a branch or tag names: first few, then all.
var windows = []int{50, 0}

// need fetches the commits with their trees. Where the server gives out any
// commit, those and no other; elsewhere they are looked for below the head.
func (r *remote) need(ctx context.Context, head plumbing.Hash, want ...plumbing.Hash) error {
	want = slices.DeleteFunc(want, r.has)
	if len(want) == 0 {
		return nil
	}
	direct := r.can.Supports(capability.AllowReachableSHA1InWant) || !slices.ContainsFunc(want, func(h plumbing.Hash) bool { return !r.named(h) })
	if direct {
		if err := r.fetch(ctx, 1, want...); err == nil || !refused(err) {
			return err
		}
	}
	tips := slices.DeleteFunc(slices.Clone(want), func(h plumbing.Hash) bool { return !r.named(h) })
	for _, window := range windows {
		if err := r.fetch(ctx, window, append(tips, head)...); err != nil {
			return err
		}
		if want = slices.DeleteFunc(want, r.has); len(want) == 0 {
			return nil
		}
	}
	return &NotFoundError{URL: r.repo.URL, What: fmt.Sprintf("commit %.12s below branch %s", want[0], r.branch)}
}

// named reports whether a branch or tag points straight at the commit.
func (r *remote) named(commit plumbing.Hash) bool {
	for _, hash := range r.refs {
		if hash == commit {
			return true
		}
	}
	return false
}

// deepen fetches some of the history, to tell who changed what.
func (r *remote) deepen(ctx context.Context, head plumbing.Hash) error {
	if r.deepened {
		return nil
	}
	r.deepened = true
	r.store = memory.NewStorage() // a pack may leave out what it thinks we have
	return r.fetch(ctx, windows[0], head)
}

// fetch gets commits and trees, and files only if the server cannot leave them out.
func (r *remote) fetch(ctx context.Context, depth int, want ...plumbing.Hash) error {
	session, err := r.dial.fetch(ctx)
	if err != nil {
		return explain(r.repo, reading, err)
	}
	defer session.Close()
	adv, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return explain(r.repo, reading, err)
	}
	req, err := request(adv.Capabilities, depth, want)
	if err != nil {
		return fmt.Errorf("preparing a fetch: %w", err)
	}
	answer, err := session.UploadPack(ctx, req)
	if err != nil {
		return explain(r.repo, reading, err)
	}
	defer answer.Close()
	in := &limited{in: demultiplexed(req.Capabilities, answer), left: r.repo.MaxBytes}
	pack, err := io.ReadAll(in)
	switch {
	case in.left < 0:
		return &TooLargeError{URL: r.repo.URL, Bytes: r.repo.MaxBytes}
	case err != nil:
		return explain(r.repo, reading, err)
	case weigh(pack, unpacks*r.repo.MaxBytes) != nil:
		return &TooLargeError{URL: r.repo.URL, Bytes: unpacks * r.repo.MaxBytes, Unpacked: true}
	}
	if err := packfile.UpdateObjectStorage(r.store, bytes.NewReader(pack)); err != nil {
		return explain(r.repo, reading, err)
	}
	return nil
}

// request asks for commits down to a depth, 0 for all, without files.
func request(can *capability.List, depth int, want []plumbing.Hash) (*packp.UploadPackRequest, error) {
	req := packp.NewUploadPackRequestFromCapabilities(can)
	req.Wants = slices.Clone(want)
	var err error
	set := func(c capability.Capability) bool {
		if !can.Supports(c) {
			return false
		}
		err = errors.Join(err, req.Capabilities.Set(c))
		return true
	}
	if depth > 0 && set(capability.Shallow) {
		req.Depth = packp.DepthCommits(depth)
	}
	if set(capability.Filter) {
		req.Filter = packp.FilterBlobNone()
	}
	set(capability.NoProgress)
	return req, err
}

func demultiplexed(can *capability.List, in io.Reader) io.Reader {
	switch {
	case can.Supports(capability.Sideband64k):
		return sideband.NewDemuxer(sideband.Sideband64k, in)
	case can.Supports(capability.Sideband):
		return sideband.NewDemuxer(sideband.Sideband, in)
	}
	return in
}

// limited ends with an error when too much comes.
type limited struct {
	in   io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.in.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, errors.New("the server sends more than is taken")
	}
	return n, err
}
