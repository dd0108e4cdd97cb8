package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"
)

// A scenario is one story with a necessary end.
type scenario struct {
	name, what string
	on         func(*lab) *service
	play       func(ctx context.Context, s *service, r *result) error
	pause      bool // without clients
	beside     bool // nothing is timed and nothing shared is touched: it may be played while another service has one, too
	last       bool // nothing is asked of the service afterwards, so it comes after all others
}

func onShop(l *lab) *service { return l.shop }
func onWeb(l *lab) *service  { return l.web }
func onTags(l *lab) *service { return l.tags }

// scenarios in the order in which they are played: first those that have the
// machine for themselves, then those of two services at a time, then
// what leaves nothing behind that works.
func scenarios() []scenario { return slices.Concat(alone(), beside(), last()) }

func alone() []scenario {
	return []scenario{
		{name: "healthy", what: "a healthy release is promoted, and no client notices", on: onShop, play: healthy},
		{name: "slow", what: "a slow release is stopped, and taken back in git", on: onShop, play: slowRelease},
		{name: "errors", what: "a release that fails requests is stopped", on: onShop, play: failingRelease},
		{name: "replaced-program", what: "somebody replaces the program in the kernel of a node: the measurement is void", on: onShop, play: replacedProgram},
		{name: "tampered-object", what: "the DaemonSet loads another object than the release names", on: onShop, play: tamperedObject},
		{name: "probe-killed", what: "the pod of the probe is killed during the canary", on: onShop, play: probeKilled},
		{name: "api-restart", what: "the API server is killed and started again during the canary", on: onShop, play: apiRestart},
		{name: "drift-live", what: "somebody changes stable and canary behind git's back: drift says it, and it is put right", on: onShop, play: driftLive},
		{name: "drift-git", what: "git moves on, and nothing is synced by itself: drift says it", on: onShop, play: driftGit},
		{name: "drift-loaded", what: "a node has loaded something else than the release names: drift says it", on: onShop, play: driftLoaded},
		{name: "route-healthy", what: "weights of an HTTPRoute, after a step for a header", on: onWeb, play: routeHealthy},
		{name: "route-slow", what: "a slow release behind a gateway is stopped", on: onWeb, play: routeSlow},
		{name: "drift-weights", what: "somebody gives the canary half of the traffic by hand: drift says it, and it is put right", on: onWeb, play: driftWeights},
		{name: "tag-constraint", what: "an Application that follows 1.*: taken back by a tag", on: onTags, play: tagConstraint},
	}
}

func beside() []scenario {
	list := []scenario{
		{name: "again", what: "a release that was stopped is not tried again when it is committed again", on: onShop, play: sameAgain},
		{name: "unsigned", what: "an image without signature gets no traffic", on: onShop, play: unsigned},
		{name: "foreign-signature", what: "an image signed by somebody else gets no traffic", on: onShop, play: foreignSignature},
		{name: "two-releases", what: "a second release is committed while the first is on trial", on: onShop, play: twoReleases},
		{name: "no-traffic", what: "without clients nothing is proven: held, and taken back at the deadline", on: onShop, play: noTraffic, pause: true},
		{name: "no-permission", what: "the hooks lost their rights", on: onShop, play: noPermission},
		{name: "no-gate", what: "a commit takes the hooks out of the folder, and the API server lets no image past them", on: onShop, play: noGate},
		{name: "expired-token", what: "the password for the revert commit has expired", on: onShop, play: expiredToken},
		{name: "git-gone", what: "the git repository is gone when a release has to be taken back", on: onShop, play: gitGone},
		{name: "wrong-namespace", what: "sluice.yaml names another namespace than the Application", on: onShop, play: wrongNamespace},
		{name: "no-endpoints", what: "nothing serves behind the Service", on: onShop, play: noEndpoints, pause: true},
		{name: "gate-evicted", what: "the pod of the gate is evicted during the canary", on: onWeb, play: gateEvicted},
		{name: "never-ready", what: "a release whose pods never get ready", on: onWeb, play: neverReady},
		{name: "own-weights", what: "somebody set weights of his own", on: onWeb, play: ownWeights, pause: true},
		{name: "foreign-route", what: "the HTTPRoute is managed by somebody else", on: onWeb, play: foreignRoute},
	}
	for i := range list {
		list[i].beside = true
	}
	return list
}

func last() []scenario {
	return []scenario{{name: "crd-missing", what: "the definition of HTTPRoutes is gone", on: onWeb, play: noCRD, pause: true, last: true}}
}

// play plays the scenarios whose names match.
func (l *lab) play(ctx context.Context, only *regexp.Regexp) {
	var lanes [2][]scenario // those of the shop, and those of all others
	var end []scenario
	for _, sc := range scenarios() {
		switch {
		case !only.MatchString(sc.name):
		case sc.last:
			end = append(end, sc)
		case !sc.beside:
			l.turn(ctx, sc)
		case sc.on(l) == l.shop:
			lanes[0] = append(lanes[0], sc)
		default:
			lanes[1] = append(lanes[1], sc)
		}
	}
	if len(lanes[1]) > 0 && ctx.Err() == nil { // both lanes need the daemons, which come with the shop
		if err := l.shop.opened(ctx); err != nil {
			l.shop.say("%v", err)
		}
	}
	var group sync.WaitGroup
	for _, lane := range lanes {
		group.Go(func() {
			for _, sc := range lane {
				l.turn(ctx, sc)
			}
		})
	}
	group.Wait()
	for _, sc := range end {
		l.turn(ctx, sc)
	}
}

// turn plays a scenario and keeps its result. Services that are not concerned
// have no clients meanwhile, unless they may be concerned by others.
func (l *lab) turn(ctx context.Context, sc scenario) {
	s := sc.on(l)
	for _, other := range []*service{l.shop, l.web, l.tags} {
		if other != s && (!sc.beside || other != l.shop && s != l.shop) {
			other.traffic.stop()
		}
	}
	r := l.one(ctx, sc, s)
	if r.OK {
		s.say("  ok after %.0f s: %s; %d requests, %d without an answer", r.Took, orDash(r.Verdict), r.Sent, r.Failed)
	} else {
		s.say("  WRONG: %s", r.Wrong)
	}
	l.report.add(r)
}

// open installs a service with its first release.
func (l *lab) open(ctx context.Context, s *service) error {
	begin := time.Now()
	if s != l.shop && !l.shop.installed { // the daemons are rendered with the shop
		if err := l.shop.opened(ctx); err != nil {
			return err
		}
	}
	if err := s.install(ctx, "1.0.0"); err != nil {
		return err
	}
	l.say("%s serves 1.0.0", s.name)
	l.report.figure("first sync of "+s.name+" (s)", time.Since(begin).Seconds())
	return nil
}

// scenarioLimit is how long a scenario may take in all, so that one that hangs
// costs the others no more.
const scenarioLimit = 6 * time.Minute

// one plays a scenario and judges it.
func (l *lab) one(ctx context.Context, sc scenario, s *service) result {
	r := result{Scenario: sc.name, What: sc.what}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, scenarioLimit)
	defer cancel()
	if err := s.prepare(ctx); err != nil {
		return r.end(begin, fmt.Errorf("not played: %w", err))
	}
	s.say("%s: %s", sc.name, sc.what)
	begin = time.Now()
	if sc.pause {
		s.traffic.stop()
	}
	before := s.traffic.now()
	err := sc.play(ctx, s, &r)
	got := s.traffic.now().minus(before)
	s.spoiled = err != nil
	r.Sent, r.Failed, r.Errors, r.Late = got.Sent, got.Failed, got.Errors, got.Late
	if r.Failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d requests got no answer: %v", r.Failed, got.Reasons))
	}
	if r.Errors > 0 && r.Errors > r.mayFail {
		err = errors.Join(err, fmt.Errorf("%d answers with 5xx", r.Errors))
	}
	return r.end(begin, err)
}

// end closes a result.
func (r result) end(begin time.Time, err error) result {
	r.Took, r.OK = time.Since(begin).Seconds(), err == nil
	if err != nil {
		r.Wrong = err.Error()
	}
	return r
}
