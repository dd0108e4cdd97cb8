package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/image"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/report"
	"github.com/sluice-cd/sluice/internal/sign"
	"github.com/sluice-cd/sluice/internal/verdict"
)

// Record closes the books: the ledger, the recording, the signed verdict, the
// report. It runs whatever happened before, and lets go of everything.
type Record struct{ *Rollout }

func (Record) String() string { return "record" }

// Run is End without a failure.
func (s Record) Run(ctx context.Context) (string, error) { return s.End(ctx, nil) }

// End writes what is known. The ledger comes first: it is the one that counts.
func (s Record) End(ctx context.Context, failed error) (summary string, err error) {
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.enterRefusal(failed); err != nil || !s.began {
		if err == nil {
			err = Skip{}
		}
		return "", err
	}
	programs := s.programs()
	if err := s.ledger.Finish(s.started.ID, s.finish(failed)); err != nil {
		return "", err
	}
	records := s.ledger.Records()
	s.Record = &records[s.started.ID-1]
	dir := filepath.Join(s.Out, "rollouts", fmt.Sprintf("%04d-%s", s.started.ID, s.Version))
	if err := s.writeRecording(dir); err != nil {
		return "", err
	}
	signed, err := s.signVerdict(ctx, dir)
	if err != nil {
		return "", err
	}
	data := s.report(dir)
	data.Programs = programs
	if err := report.Write(filepath.Join(dir, "report.html"), data); err != nil {
		return "", err
	}
	return list(fmt.Sprintf("ledger entry %d", s.started.ID), signed, filepath.Join(filepath.Base(s.Out), "rollouts", filepath.Base(dir), "report.html")), nil
}

// enterRefusal begins the ledger's entry of a release that the rules refused
// before there was a rollout.
func (s Record) enterRefusal(failed error) error {
	var refused *RefusedError
	if s.began || !errors.As(failed, &refused) {
		return nil
	}
	var err error
	if s.ledger == nil {
		if s.ledger, err = release.OpenLedger(ledgerPath(s.Out)); err != nil {
			return err
		}
	}
	return s.begin()
}

// finish is the ledger's entry.
func (s Record) finish(failed error) release.Result {
	r := verdict.Result(s.result, time.Now())
	var refused *RefusedError
	switch {
	case s.result.Promote:
	case errors.As(failed, &refused):
		r.Outcome, r.Trigger = release.Refused, release.Trigger(refused.Trigger)
		r.Verdict, r.Reason = refused.verdict(), refused.Error()
	case s.refused:
		r.Outcome, r.Verdict, r.Reason = release.Refused, gate.Invalid.String(), errorText(failed)
	case errors.Is(failed, context.Canceled) && r.Trigger == "":
		r.Trigger, r.Reason, r.Verdict = release.Operator, interrupted, ""
	case r.Reason == "":
		r.Reason = errorText(failed)
	}
	if !s.judged() && r.Outcome != release.Refused && s.result.Trigger == canary.None {
		r.Verdict = "" // the gate was never asked
	}
	return r
}

// judged reports whether there is a verdict at all.
func (s Record) judged() bool {
	return len(s.result.Looks) > 0 || s.result.Verdict.Outcome != gate.Inconclusive
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// writeRecording leaves what is needed to come to the verdict again.
func (s Record) writeRecording(dir string) error {
	samples, err := verdict.EncodeLooks(s.result.Looks)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "samples.jsonl"), samples); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(verdict.Recording{
		Record: *s.Record, Verdict: s.result.Verdict, Gate: verdict.Gate(s.Config.Deploy.Gate),
		Plan: verdict.Plan(s.Config.Deploy.Canary), Timeline: s.result.Timeline, Events: s.events,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the verdict: %w", err)
	}
	return writeFile(filepath.Join(dir, "verdict.json"), append(raw, '\n'))
}

// signVerdict signs the verdict on the image and attaches it there. Who may
// only verify leaves it unsigned, and it says so.
func (s Record) signVerdict(ctx context.Context, dir string) (string, error) {
	if s.Record.Image == "" || s.Record.Outcome == release.Refused {
		return "", nil
	}
	if s.Config.Sign.Key == "" && s.Config.Sign.PublicKey != "" {
		return "verdict not signed: there is no private key", nil
	}
	signer, err := s.signer()
	var nobody *sign.TokenError
	if errors.As(err, &nobody) {
		return "verdict not signed: " + nobody.Problem, nil
	}
	if err != nil {
		return "", err
	}
	bundle, err := signer.Attest(ctx, sign.Statement{
		Subjects:      []sign.Subject{{Name: s.Config.Name, SHA256: bare(s.Record.Image)}},
		PredicateType: sign.PredicateVerdict, Predicate: s.Record,
	})
	if err != nil {
		return "", fmt.Errorf("signing the verdict: %w", err)
	}
	if err := writeFile(filepath.Join(dir, "verdict.sigstore.json"), bundle); err != nil {
		return "", err
	}
	layout, err := image.OpenLayout(filepath.Join(s.Out, "oci"))
	if err != nil {
		return "", err
	}
	_, err = layout.Attach(s.Record.Image, bundleType, bundleType, bundle, map[string]string{
		"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": sign.PredicateVerdict,
	})
	return "verdict signed", err
}

func (s Record) report(dir string) report.Data {
	d := report.Data{
		Record: *s.Record, Verdict: s.result.Verdict,
		Alpha: s.Config.Deploy.Gate.Alpha.Float(), Beta: s.Config.Deploy.Gate.Beta.Float(),
		Recorded: filepath.Join(dir, "samples.jsonl"),
		Command:  fmt.Sprintf("sluice gate --out %s --rollout %d", s.Out, s.started.ID),
	}
	if s.release.Name != "" {
		d.Release = &s.release.Release
	}
	share := -1
	for _, l := range s.result.Looks {
		d.Blocks = append(d.Blocks, l.Block)
		d.Evidence = append(d.Evidence, report.Point{At: l.End, Odds: l.Odds, PassOdds: l.PassOdds})
		if l.Weight != share {
			share = l.Weight
			d.Weights = append(d.Weights, report.Weight{At: l.Start, Share: float64(share) / canary.Full})
		}
	}
	if t := s.result.Timeline.Traffic; !t.IsZero() {
		d.Weights = append(d.Weights, report.Weight{At: t, Share: 0})
	}
	for _, e := range s.events {
		d.Events = append(d.Events, report.Event{At: e.At, Text: e.Text})
	}
	return d
}

// programs lists what is loaded, while it is.
func (s Record) programs() []report.Program {
	if s.probe == nil {
		return nil
	}
	var list []report.Program
	for _, p := range s.probe.Loaded().Programs {
		list = append(list, report.Program{Name: p.Name, Tag: p.Tag, AttachedTo: p.AttachedTo, ID: p.ID})
	}
	return list
}

// close lets go of the kernel, the service and the ledger.
func (r *Rollout) close() error {
	var errs []error
	if r.probe != nil {
		errs = append(errs, r.probe.Close())
		r.probe = nil
	}
	if r.target != nil {
		errs = append(errs, r.target.Close())
		r.target = nil
	}
	if r.ledger != nil {
		errs = append(errs, r.ledger.Close())
		r.ledger = nil
	}
	return errors.Join(errs...)
}
