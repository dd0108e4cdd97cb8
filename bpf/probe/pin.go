package probe

import (
	"errors"

	"github.com/cilium/ebpf"

	"github.com/sluice-cd/sluice/bpf"
)

// Inherited reports whether the probe goes on with the counters that an earlier
// process has pinned. If something was pinned that it could not go on with, the
// error says why: that is removed, and the counters begin at zero. The answer is
// final after Attach.
func (p *Probe) Inherited() (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inherited, p.discarded
}

// takeOver opens what is pinned, if it can be gone on with.
func (p *Probe) takeOver() (err error) {
	if p.pins, err = bpf.OpenPins(p.opts.Pin); err != nil {
		p.pins = nil
		return err
	}
	maps, err := p.pins.TakeOver(p.spec, attachments)
	var stale *bpf.StaleError
	if errors.As(err, &stale) {
		p.discarded = err
		return nil
	}
	p.inherited, p.coll.Maps = len(maps) > 0, maps
	return err
}

// ofAnother begins anew if what was taken over measures another control group.
func (p *Probe) ofAnother(cgroupDir string) error {
	if !p.inherited || p.pins == nil {
		return nil
	}
	same, err := p.pins.Of(cgroupDir)
	if err != nil || same {
		return err
	}
	p.pins.Discard()
	p.staged.Close()
	for _, m := range p.coll.Maps {
		_ = m.Close()
	}
	p.coll, p.inherited = &ebpf.Collection{}, false
	p.discarded = &bpf.StaleError{What: "the probe", Dir: p.opts.Pin, Why: "it measures another control group than " + cgroupDir}
	return p.loadFresh()
}
