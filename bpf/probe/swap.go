package probe

import (
	"fmt"
	"maps"

	"github.com/sluice-cd/sluice/bpf"
)

// Staged is an object that is ready to take the place of the one that counts.
type Staged struct {
	probe  *Probe
	digest bpf.Digest
	staged *bpf.Staged // nil: committed or closed
}

// Stage parses another object and lets the kernel verify it over the same maps.
// Nothing is attached, and nothing is left after Close. Errors are those of
// Load.
func (p *Probe) Stage(obj []byte, want bpf.Digest) (*Staged, error) {
	spec, err := prepare(obj, want, p.opts)
	if err != nil {
		return nil, err
	}
	staged, err := bpf.Stage(spec, p.coll.Maps)
	if err != nil {
		return nil, err
	}
	return &Staged{probe: p, digest: want, staged: staged}, nil
}

// Commit replaces the programs that count, each in one step; the counters go on.
// After an error the old ones are in their places, as far as the kernel lets
// them, and Commit can be tried again.
func (s *Staged) Commit() error {
	p := s.probe
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.staged == nil {
		return fmt.Errorf("swapping the probe: %s is committed or closed already", s.digest)
	}
	if p.watch == nil {
		return fmt.Errorf("swapping the probe: %w", errDetached)
	}
	if err := p.watch.Replace(s.staged); err != nil {
		return err
	}
	p.staged.Close()
	p.staged, p.digest, s.staged = s.staged, s.digest, nil
	p.coll.Programs = maps.Clone(p.staged.Programs)
	return nil
}

// Close gives up what was staged, unless it was committed.
func (s *Staged) Close() error {
	s.probe.mu.Lock()
	defer s.probe.mu.Unlock()
	if s.staged != nil {
		s.staged.Close()
		s.staged = nil
	}
	return nil
}

// Swap replaces the programs by those of another object. Errors are those of
// Stage and Commit.
func (p *Probe) Swap(obj []byte, want bpf.Digest) error {
	staged, err := p.Stage(obj, want)
	if err != nil {
		return err
	}
	defer staged.Close()
	return staged.Commit()
}
