package local

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/sluice-cd/sluice/internal/cgroup"
)

// reviveStable starts the stable version again if its process has ended. Until
// it is ready its slot is empty, and the kernel gives its share to the canary:
// taking traffic off the canary has to wait for this.
func (t *Target) reviveStable(ctx context.Context) (err error) {
	old := t.state.Stable
	if old == nil {
		return nil
	}
	select {
	case <-old.gone:
	default:
		return nil
	}
	if err := old.Cgroup.Remove(ctx); err != nil {
		return err
	}
	group, err := cgroup.Create(filepath.Join(string(t.group), groupName(old.Version, old.Slot)))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, group.Remove(ctx))
		}
	}()
	arm, mover, err := launch(old.Service, group)
	if err != nil {
		return fmt.Errorf("starting the stable version again: %w", err)
	}
	defer mover.Close()
	arm.Slot = old.Slot
	sock, err := arm.ready(ctx, mover)
	if err != nil {
		return fmt.Errorf("starting the stable version again: %w", err)
	}
	defer sock.close()
	arm.Own = sock.local
	if err := t.split.SetSocket(arm.Slot, sock.fd); err != nil {
		return err
	}
	t.state.Stable = arm
	return t.state.write(t.run)
}
