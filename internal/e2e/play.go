package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// A scenario is one story with a necessary end.
type scenario struct {
	name, what string
	on         func(*lab) *service
	play       func(ctx context.Context, s *service, r *result) error
	pause      bool // without clients
	last       bool // nothing is asked of the service afterwards
}

func onShop(l *lab) *service { return l.shop }
func onWeb(l *lab) *service  { return l.web }
func onTags(l *lab) *service { return l.tags }

// scenarios in the order in which they are played; the most important first.
func scenarios() []scenario {
	return []scenario{
		{name: "healthy", what: "a healthy release is promoted, and no client notices", on: onShop, play: healthy},
		{name: "slow", what: "a slow release is stopped, and taken back in git", on: onShop, play: slowRelease},
		{name: "errors", what: "a release that fails requests is stopped", on: onShop, play: failingRelease},
		{name: "again", what: "a release that was stopped is not tried again when it is committed again", on: onShop, play: sameAgain},
		{name: "unsigned", what: "an image without signature gets no traffic", on: onShop, play: unsigned},
		{name: "foreign-signature", what: "an image signed by somebody else gets no traffic", on: onShop, play: foreignSignature},
		{name: "replaced-program", what: "somebody replaces the program in the kernel of a node: the measurement is void", on: onShop, play: replacedProgram},
		{name: "tampered-object", what: "the DaemonSet loads another object than the release names", on: onShop, play: tamperedObject},
		{name: "no-traffic", what: "without clients nothing is proven: held, and taken back at the deadline", on: onShop, play: noTraffic, pause: true},
		{name: "probe-killed", what: "the pod of the probe is killed during the canary", on: onShop, play: probeKilled},
		{name: "gate-evicted", what: "the pod of the gate is evicted during the canary", on: onShop, play: gateEvicted},
		{name: "api-restart", what: "the API server is killed and started again during the canary", on: onShop, play: apiRestart},
		{name: "two-releases", what: "a second release is committed while the first is on trial", on: onShop, play: twoReleases},
		{name: "route-healthy", what: "weights of an HTTPRoute, after a step for a header", on: onWeb, play: routeHealthy},
		{name: "route-slow", what: "a slow release behind a gateway is stopped", on: onWeb, play: routeSlow},
		{name: "tag-constraint", what: "an Application that follows 1.*: taken back by a tag", on: onTags, play: tagConstraint},
		{name: "never-ready", what: "a release whose pods never get ready", on: onShop, play: neverReady},
		{name: "no-permission", what: "the hooks lost their rights", on: onShop, play: noPermission},
		{name: "no-endpoints", what: "nothing serves behind the Service", on: onShop, play: noEndpoints, pause: true},
		{name: "wrong-namespace", what: "sluice.yaml names another namespace than the Application", on: onShop, play: wrongNamespace},
		{name: "foreign-route", what: "the HTTPRoute is managed by somebody else", on: onWeb, play: foreignRoute},
		{name: "own-weights", what: "somebody set weights of his own", on: onWeb, play: ownWeights, pause: true},
		{name: "expired-token", what: "the password for the revert commit has expired", on: onShop, play: expiredToken},
		{name: "git-gone", what: "the git repository is gone when a release has to be taken back", on: onShop, play: gitGone},
		{name: "crd-missing", what: "the definition of HTTPRoutes is gone", on: onWeb, play: noCRD, pause: true, last: true},
	}
}

// play installs the services that are needed and plays the scenarios.
func (l *lab) play(ctx context.Context, only *regexp.Regexp) error {
	ready := map[*service]bool{}
	for _, sc := range scenarios() {
		if !only.MatchString(sc.name) {
			continue
		}
		s := sc.on(l)
		if !ready[s] {
			if err := l.open(ctx, s); err != nil {
				return err
			}
			ready[s] = true
		}
		r := l.one(ctx, sc, s)
		l.report.Scenarios = append(l.report.Scenarios, r)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// open installs a service with its first release and starts its clients.
func (l *lab) open(ctx context.Context, s *service) error {
	begin := time.Now()
	if s != l.shop && l.shop.repo == nil { // the daemons are rendered with the shop
		if err := l.open(ctx, l.shop); err != nil {
			return err
		}
	}
	if err := s.install(ctx, "1.0.0"); err != nil {
		return err
	}
	if err := s.openTraffic(ctx); err != nil {
		return fmt.Errorf("clients of %s: %w", s.name, err)
	}
	l.say("%s serves 1.0.0, %.0f requests a second and the witness's", s.name, l.rate)
	l.report.Figures["first sync of "+s.name+" (s)"] = time.Since(begin).Seconds()
	return nil
}

// one plays a scenario and judges it.
func (l *lab) one(ctx context.Context, sc scenario, s *service) (r result) {
	r = result{Scenario: sc.name, What: sc.what}
	l.say("%s: %s", sc.name, sc.what)
	begin := time.Now()
	if sc.pause {
		s.traffic.stop()
	}
	before := s.traffic.now()
	err := sc.play(ctx, s, &r)
	if sc.last {
		return r.end(begin, err)
	}
	if sc.pause {
		err = errors.Join(err, s.openTraffic(ctx))
		before = counted{}
	}
	got := s.traffic.now().minus(before)
	r.Sent, r.Failed, r.Errors, r.Late = got.Sent, got.Failed, got.Errors, got.Late
	if r.Failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d requests got no answer: %v", r.Failed, got.Reasons))
	}
	if r.Errors > 0 && r.Errors > r.mayFail {
		err = errors.Join(err, fmt.Errorf("%d answers with 5xx", r.Errors))
	}
	r = r.end(begin, err)
	if err != nil {
		l.say("  WRONG: %v", err)
	} else {
		l.say("  ok after %.0f s: %s; %d requests, %d without an answer", r.Took, orDash(r.Verdict), r.Sent, r.Failed)
	}
	return r
}

// end closes a result.
func (r result) end(begin time.Time, err error) result {
	r.Took, r.OK = time.Since(begin).Seconds(), err == nil
	if err != nil {
		r.Wrong = err.Error()
	}
	return r
}
