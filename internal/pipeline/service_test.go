package pipeline

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/release"
)

// A stable version that is started again beside a canary must not get the
// canary's faults.
func TestWhatARolloutAddsIsForItsOwnReleaseOnly(t *testing.T) {
	r := &Rollout{Job: Job{
		Config: &config.Config{}, Version: "v1.2.0",
		Args: []string{"-slow"}, Env: map[string]string{"FAIL": "1"},
	}}
	manifest := func(version string) verifiedRelease {
		return verifiedRelease{Release: release.Release{Version: version, Args: []string{"-x"}, Env: map[string]string{"A": "b"}}}
	}
	own, other := r.service(manifest("v1.2.0")), r.service(manifest("v1.1.0"))
	if diff := cmp.Diff([]string{"-x", "-slow"}, own.Args) + cmp.Diff(map[string]string{"A": "b", "FAIL": "1"}, own.Env); diff != "" {
		t.Errorf("its own release: %s", diff)
	}
	if diff := cmp.Diff([]string{"-x"}, other.Args) + cmp.Diff(map[string]string{"A": "b"}, other.Env); diff != "" {
		t.Errorf("the version before: %s", diff)
	}
}
