package gitops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
)

// push is a change of references and the objects that it needs.
type push struct {
	objects  []plumbing.EncodedObject
	commands []*packp.Command
}

func (p *push) add(ref string, from, to plumbing.Hash) {
	p.commands = append(p.commands, &packp.Command{Name: plumbing.ReferenceName(ref), Old: from, New: to})
}

// push asks the server to change references that are still where we saw them. A
// *raceError means that they are not.
func (r *remote) push(ctx context.Context, p push) error {
	session, err := r.dial.push(ctx)
	if err != nil {
		return explain(r.repo, writing, err)
	}
	defer session.Close()
	adv, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return explain(r.repo, writing, err)
	}
	for _, c := range p.commands {
		if adv.References[c.Name.String()] != c.Old {
			return &raceError{Ref: c.Name.String()}
		}
	}
	var said remark
	req, err := r.update(adv.Capabilities, p, &said)
	if err != nil {
		return err
	}
	report, err := session.ReceivePack(ctx, req)
	if err == nil {
		return nil
	}
	if report != nil {
		return r.rejected(ctx, p, report, said.String())
	}
	return explain(r.repo, writing, err)
}

// update asks for the changes, all or none if the server can do that.
func (r *remote) update(can *capability.List, p push, said *remark) (*packp.ReferenceUpdateRequest, error) {
	req := packp.NewReferenceUpdateRequestFromCapabilities(can)
	req.Commands = p.commands
	var err error
	if len(p.commands) > 1 && can.Supports(capability.Atomic) {
		err = req.Capabilities.Set(capability.Atomic)
	}
	if can.Supports(capability.Sideband64k) {
		err = errors.Join(err, req.Capabilities.Set(capability.Sideband64k))
		req.Progress = said
	}
	if err != nil {
		return nil, fmt.Errorf("preparing a push: %w", err)
	}
	req.Packfile, err = r.pack(p.objects)
	return req, err
}

// pack encodes the objects. A push without new objects sends an empty pack.
func (r *remote) pack(objects []plumbing.EncodedObject) (io.ReadCloser, error) {
	var hashes []plumbing.Hash
	for _, o := range objects {
		hash, err := r.store.SetEncodedObject(o)
		if err != nil {
			return nil, fmt.Errorf("packing %s: %w", o.Hash(), err)
		}
		hashes = append(hashes, hash)
	}
	var out bytes.Buffer
	if _, err := packfile.NewEncoder(&out, r.store, false).Encode(hashes, 0); err != nil {
		return nil, fmt.Errorf("packing a commit: %w", err)
	}
	return io.NopCloser(&out), nil
}

// rejected tells a race from a server that does not want this push.
func (r *remote) rejected(ctx context.Context, p push, report *packp.ReportStatus, said string) error {
	why := report.UnpackStatus
	var ref plumbing.ReferenceName
	for _, s := range report.CommandStatuses {
		// In an atomic push the one that was refused takes the other with it.
		if s.Status != "ok" && (ref == "" || strings.Contains(why, "atomic")) {
			why, ref = s.Status, s.ReferenceName
		}
	}
	again, err := open(ctx, r.repo)
	if err != nil {
		return err
	}
	defer again.close()
	for _, c := range p.commands {
		if again.refs[c.Name.String()] != c.Old {
			return &raceError{Ref: c.Name.String()}
		}
	}
	if strings.Contains(why, "lock") { // somebody else is at it and not done
		return &raceError{Ref: ref.String()}
	}
	return &ProtectedError{URL: r.repo.URL, Ref: ref.String(), Why: why, Said: said}
}

// remark keeps the beginning of what a server says to a person.
type remark struct{ bytes.Buffer }

const maxRemark = 600

func (r *remark) Write(p []byte) (int, error) {
	r.Buffer.Write(p[:min(len(p), max(0, maxRemark-r.Len()))])
	return len(p), nil
}

func (r *remark) String() string { return line(r.Buffer.String()) }
