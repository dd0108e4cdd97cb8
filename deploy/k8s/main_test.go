package k8s

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/cluster"
)

// lab is the control plane that the tests share, each with a namespace of its
// own. It is started by the first that needs it.
var lab struct {
	once  sync.Once
	plane *cluster.Plane
	dir   string
	err   error
}

// The test binary is also the rollout that the tests kill.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_ROLLOUT") != "" {
		if err := beKilled(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if lab.plane != nil {
		lab.plane.Stop()
	}
	_ = os.RemoveAll(lab.dir)
	os.Exit(code)
}

// controlPlane returns the shared control plane, with its controllers and the
// Gateway API.
func controlPlane(t *testing.T) *cluster.Plane {
	t.Helper()
	lab.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if lab.dir, lab.err = os.MkdirTemp("", "sluice-k8s-"); lab.err != nil {
			return
		}
		if lab.plane, lab.err = cluster.StartPlane(ctx, lab.dir, func(line string) { t.Log(line) }); lab.err != nil {
			return
		}
		lab.plane.GatewayAPI(t)
		lab.err = lab.plane.Controllers(ctx)
	})
	if lab.err != nil {
		t.Fatal(lab.err)
	}
	return lab.plane
}
