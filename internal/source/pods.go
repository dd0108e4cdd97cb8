package source

import (
	"fmt"
	"net/netip"
	"time"
)

// arm is one of the two versions.
type arm int

const (
	stableArm arm = iota
	canaryArm
)

func (a arm) String() string { return [...]string{"stable version", "canary"}[a] }

// pod is an address that answers for a version.
type pod struct {
	arm   arm
	since time.Time // when it was listed first
	left  time.Time // since when it is not listed any more; zero: it is

	known     bool   // a node's probe has a workload there
	blocks    int    // in which none had
	elsewhere uint64 // requests to its version in these
}

// version is the one that a pod belongs to; of none it means nothing.
func (p *pod) version() arm {
	if p == nil {
		return stableArm
	}
	return p.arm
}

// pods is a list of addresses, as it was at one time.
type pods map[netip.AddrPort]*pod

// bothError means that an address is listed for both versions: what is answered
// there is nobody's.
type bothError struct{ addr netip.AddrPort }

func (e *bothError) Error() string {
	return fmt.Sprintf("%s is an address of the stable version and of the canary", e.addr)
}

// linger is how long a pod counts that is not listed any more: it may have ended,
// and then answers nothing; or it is only not ready, and what clients that are
// connected get from it is what the gate has to know.
const linger = time.Minute

// next is the list of a later time; what is known of an address that stays with
// its version is kept.
func (p pods) next(stable, canary []netip.AddrPort, now time.Time) (pods, error) {
	all := make(pods, len(stable)+len(canary))
	for a, list := range [...][]netip.AddrPort{stable, canary} {
		for _, addr := range list {
			addr = netip.AddrPortFrom(addr.Addr().Unmap().WithZone(""), addr.Port())
			if twice := all[addr]; twice != nil && twice.arm != arm(a) {
				return nil, &bothError{addr}
			}
			if old := p[addr]; old != nil && old.arm == arm(a) {
				old.left = time.Time{}
				all[addr] = old
			} else {
				all[addr] = &pod{arm: arm(a), since: now}
			}
		}
	}
	for addr, old := range p {
		if all[addr] != nil {
			continue
		}
		if old.left.IsZero() {
			old.left = now
		}
		if now.Sub(old.left) < linger {
			all[addr] = old
		}
	}
	return all, nil
}

// linger reports whether some are not listed any more.
func (p pods) linger() bool {
	for _, pod := range p {
		if !pod.left.IsZero() {
			return true
		}
	}
	return false
}

// beyond reports whether there are pods that an earlier list does not have.
func (p pods) beyond(earlier pods) bool {
	for addr, pod := range p {
		if earlier[addr] != pod {
			return true
		}
	}
	return false
}

// during says whose an address was in a block, of which p is the list at its
// begin and end the one at its end. A pod counts that was there at the begin: the
// last that one answers is counted, and of one that is new not what it answered to
// a kubelet before it was ready. An address that went from one version to the
// other within the block is nobody's: who answered is not known.
func (p pods) during(end pods, addr netip.AddrPort) *pod {
	before := p[addr]
	if after := end[addr]; after != nil && after != before {
		return nil
	}
	return before
}

// How long a pod may be ready without any probe having seen a connection to it:
// longer than the ten seconds between two checks of a kubelet, and until the
// others of its version had so many requests each that chance explains it no more.
const (
	unseenBlocks   = 5
	unseenFor      = 15 * time.Second
	unseenRequests = 20
)

// unseen says which pod no probe sees although its version gets requests: the
// arm's requests in this block, and its end.
func (p pods) unseen(requests [2]uint64, now time.Time) string {
	var of [2]uint64
	for _, pod := range p {
		if pod.left.IsZero() {
			of[pod.arm]++
		}
	}
	worst, who := (*pod)(nil), netip.AddrPort{}
	for addr, pod := range p {
		if pod.known || !pod.left.IsZero() {
			continue
		}
		pod.blocks++
		pod.elsewhere += requests[pod.arm]
		if pod.blocks < unseenBlocks || now.Sub(pod.since) < unseenFor || pod.elsewhere < unseenRequests*of[pod.arm] {
			continue
		}
		if worst == nil || addr.Compare(who) < 0 {
			worst, who = pod, addr
		}
	}
	if worst == nil {
		return ""
	}
	return fmt.Sprintf("no node's probe has seen a connection to %s, a pod of the %s, in %d blocks in which the %s had %d requests: is the probe on its node, and does it measure all of the node?",
		who, worst.arm, worst.blocks, worst.arm, worst.elsewhere)
}
