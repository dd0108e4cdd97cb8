package pipeline

import (
	"fmt"
	"path/filepath"

	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/release"
)

// Job is what one run is about.
type Job struct {
	Config  *config.Config
	Out     string            // absolute path of the out folder
	Version string            // of the release, for example v1.2.3
	Commit  string            // of the source; empty outside a repository
	Args    []string          // added to the service's arguments for this rollout
	Env     map[string]string // added to the service's environment for this rollout
	Verify  bool              // build everything twice and compare
	Sizes   bool              // link once more with symbols, to know what stripping saves
	Note    func(string)      // told what a long step is at; may be nil
}

// CheckVersion says what is wrong with a version.
func CheckVersion(v string) error {
	if !release.ValidVersion(v) {
		return fmt.Errorf("version %q is not a Semantic Versioning 2.0.0 version (like v1.4.2 or 1.4.2-rc.1)", v)
	}
	return nil
}

func (j Job) note(what string) {
	if j.Note != nil {
		j.Note(what)
	}
}

// Dir is the folder of the release.
func (j Job) Dir() string { return filepath.Join(j.Out, "releases", j.Version) }

func (j Job) path(elem ...string) string {
	return filepath.Join(append([]string{j.Dir()}, elem...)...)
}
