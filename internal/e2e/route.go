package main

import (
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var deleteNow = metav1.DeleteOptions{}

// routeHealthy looks that the header leads to the new version before anybody
// else gets there.
func routeHealthy(ctx context.Context, s *service, r *result) error {
	t, err := s.try(ctx, "1.1.0", nil)
	if err != nil {
		return err
	}
	t.measure(r)
	var errs []error
	with, without := s.traffic.seen("1.1.0", t.pushed, true), s.traffic.seen("1.1.0", t.pushed, false)
	switch {
	case len(with) == 0 || len(without) == 0:
		errs = append(errs, fmt.Errorf("the new version answered %d requests with the header and %d without", len(with), len(without)))
	case !with[0].At.Before(without[0].At):
		errs = append(errs, errors.New("requests without the header got to the new version first"))
	default:
		r.Notes = append(r.Notes, fmt.Sprintf("the header led to it %.1f s before the first weight did", without[0].At.Sub(with[0].At).Seconds()))
	}
	return errors.Join(append(errs, t.promoted(ctx))...)
}

// routeSlow is slowRelease behind a gateway. In the header step only a quarter of
// the witness's requests get there.
func routeSlow(ctx context.Context, s *service, r *result) error {
	_, err := s.stopped(ctx, "1.2.0", "fail", r, nil)
	return err
}
