package ledger

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/cluster"
)

// patient is how long a test waits for what has to come, on however busy a
// machine.
const patient = 2 * time.Minute

// lab is the control plane that the tests share, each with a namespace of its own.
// It is started by the first that needs it.
var lab struct {
	once  sync.Once
	plane *cluster.Plane
	dir   string
	err   error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if lab.plane != nil {
		lab.plane.Stop()
	}
	_ = os.RemoveAll(lab.dir)
	os.Exit(code)
}

// controlPlane returns the shared control plane.
func controlPlane(t *testing.T) *cluster.Plane {
	t.Helper()
	lab.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patient)
		defer cancel()
		if lab.dir, lab.err = os.MkdirTemp("", "sluice-ledger-"); lab.err == nil {
			lab.plane, lab.err = cluster.StartPlane(ctx, lab.dir, func(line string) { t.Log(line) })
		}
	})
	if lab.err != nil {
		t.Fatal(lab.err)
	}
	return lab.plane
}
