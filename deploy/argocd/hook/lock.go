package hook

import (
	"context"
	"fmt"
	"time"

	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A lock is a Lease. Who holds it renews it every third of its life, so that an
// API server may be away for a while; a pod that has ended holds nothing.
const (
	lockLife = 30 * time.Second
	lockLook = time.Second
)

// lock makes sure that one process at a time moves the traffic of a service.
type lock struct {
	h      *hook
	lease  object
	holder string
	ended  chan struct{}
	stop   context.CancelFunc
}

// LockError says that another process holds the lock, or has taken it over.
type LockError struct {
	Lease, Holder string
	Lost          bool
}

func (e *LockError) Error() string {
	if e.Lost {
		return fmt.Sprintf("%s was taken over by %s", e.Lease, e.Holder)
	}
	return fmt.Sprintf("%s is held by %s", e.Lease, e.Holder)
}

// Temporary is always true: locks are let go.
func (e *LockError) Temporary() bool { return true }

// Hint says who to wait for.
func (e *LockError) Hint() string {
	return e.Holder + " is at work on this service; kubectl describe lease shows since when"
}

// enter takes the lock, waiting for who holds it. The context that it returns
// ends, with a *LockError as its cause, when the lock is lost.
func (h *hook) enter(ctx context.Context) (context.Context, error) {
	l := h.newLock()
	if err := l.take(ctx, false); err != nil {
		return ctx, err
	}
	return l.keep(ctx), nil
}

func (h *hook) newLock() *lock {
	return &lock{h: h, lease: object{leases, h.namespace(), h.service() + "-sluice"}, holder: h.Holder, ended: make(chan struct{})}
}

// keep renews the lock until it is released or ctx ends.
func (l *lock) keep(ctx context.Context) context.Context {
	held, lost := context.WithCancelCause(ctx)
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop, l.h.lock = stop, l
	go func() {
		defer close(l.ended)
		defer lost(nil)
		l.renew(background, lost)
	}()
	return held
}

// take waits until the lock is free. With force it waits for nobody.
func (l *lock) take(ctx context.Context, force bool) error {
	var seen metav1.MicroTime // as the holder last wrote it
	since := time.Now()       // when that was first seen: clocks of two machines are not compared
	for told := false; ; {
		var lease coordination.Lease
		_, err := l.h.api.get(ctx, l.lease, &lease)
		switch {
		case apierrors.IsNotFound(err):
			err = l.h.api.create(ctx, l.lease, l.written(nil))
		case err == nil:
			if r := lease.Spec.RenewTime; r != nil && !r.Equal(&seen) {
				seen, since = *r, time.Now()
			}
			if holder := l.heldBy(ctx, &lease); holder != "" && !force && time.Since(since) < lockLife {
				if !told {
					l.h.say("waiting for %s, which holds the lock", holder)
					told = true
				}
				if err := sleep(ctx, lockLook); err != nil {
					return &LockError{Lease: l.lease.String(), Holder: holder}
				}
				continue
			}
			err = l.h.api.update(ctx, l.lease, l.written(&lease))
		}
		if err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) || ctx.Err() != nil {
			return fmt.Errorf("taking the lock: %w", err)
		}
	}
}

// heldBy is who holds the lock, "" if that is nobody who lives.
func (l *lock) heldBy(ctx context.Context, lease *coordination.Lease) string {
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" || *lease.Spec.HolderIdentity == l.holder {
		return ""
	}
	holder := *lease.Spec.HolderIdentity
	if isOperator(holder) {
		return holder
	}
	list, err := l.h.api.list(ctx, pods, l.lease.namespace, "metadata.name="+holder)
	if err != nil {
		return holder // who cannot be looked at may live
	}
	for i := range list {
		phase, _, _ := unstructured.NestedString(list[i].Object, "status", "phase")
		if phase != string(core.PodFailed) && phase != string(core.PodSucceeded) {
			return holder
		}
	}
	return ""
}

// written is the Lease as its new holder writes it.
func (l *lock) written(old *coordination.Lease) *coordination.Lease {
	now, life := metav1.NewMicroTime(l.h.now()), int32(lockLife/time.Second)
	lease := &coordination.Lease{
		TypeMeta:   metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{Namespace: l.lease.namespace, Name: l.lease.name, Labels: l.h.labels()},
	}
	if old != nil {
		lease.ObjectMeta = old.ObjectMeta
	}
	since := &now
	if old != nil && old.Spec.AcquireTime != nil && old.Spec.HolderIdentity != nil && *old.Spec.HolderIdentity == l.holder {
		since = old.Spec.AcquireTime
	}
	lease.Spec = coordination.LeaseSpec{HolderIdentity: &l.holder, LeaseDurationSeconds: &life, AcquireTime: since, RenewTime: &now}
	return lease
}

// renew keeps the lock alive; what ends that is told to lost.
func (l *lock) renew(ctx context.Context, lost context.CancelCauseFunc) {
	for renewed := time.Now(); ; {
		if sleep(ctx, lockLook) != nil {
			return
		}
		var lease coordination.Lease
		_, err := l.h.api.get(ctx, l.lease, &lease)
		if err == nil && (lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != l.holder) {
			holder := "nobody"
			if lease.Spec.HolderIdentity != nil {
				holder = *lease.Spec.HolderIdentity
			}
			lost(&LockError{Lease: l.lease.String(), Holder: holder, Lost: true})
			return
		}
		if err == nil && time.Since(renewed) >= lockLife/3 {
			if err = l.h.api.update(ctx, l.lease, l.written(&lease)); err == nil {
				renewed = time.Now()
			}
		}
		if ctx.Err() == nil && time.Since(renewed) >= lockLife {
			lost(fmt.Errorf("renewing the lock: %w", err))
			return
		}
	}
}

// release gives the lock to the next one, if it is still ours.
func (l *lock) release() {
	l.stop()
	<-l.ended
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	var lease coordination.Lease
	if _, err := l.h.api.get(ctx, l.lease, &lease); err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != l.holder {
		return
	}
	nobody := ""
	lease.Spec.HolderIdentity = &nobody
	lease.TypeMeta = metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"}
	_ = l.h.api.update(ctx, l.lease, &lease) // who finds it held sees that our pod has ended
}

// sleep waits, and returns the error of a context that ended first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
