package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"dagger.io/dagger"

	"github.com/sluice-cd/sluice/internal/engine/command"
	"github.com/sluice-cd/sluice/internal/engine/toolbox"
)

// Where things are in a container, as in the module.
const (
	workdir = "/src"
	onPath  = "/usr/local/bin/sluice"
	goCache = "/cache/go-build"
	reports = "/tmp/report"
	docker  = "/run/registry" // DOCKER_CONFIG, where there are credentials
)

// Job is one run in an engine. Source, Out, Binary, Run and Rollout are required.
type Job struct {
	Source  string   // folder that is sent
	Exclude []string // what of Source is not sent, besides Excluded
	Out     string   // the out folder, which is sent and comes back
	Binary  string   // the sluice command for the engine
	Foreign bool     // Binary was made for the engine's platform, not for this machine's
	Commit  string   // of the source; may be empty
	Run     string   // tells one run from another, so that none is answered from a cache

	Base    string // image or tarball; empty: toolbox.Base
	CA      string // file with certificate authorities; empty: those of the image
	GoProxy string // as GOPROXY; file:///folder is sent; empty: what the image says

	Secrets map[string]string // environment variables that nobody may read
	Files   map[string]string // files of Source that nobody may read: content by path with slashes
	Docker  string            // credentials for the registry, as in ~/.docker/config.json; may be empty
	Rollout command.Rollout
}

// Excluded is what is never sent of a source: an engine keeps what it was sent in
// its cache, so files that are called like secrets stay here. The module leaves out
// the same.
func Excluded() []string {
	return []string{"out", "bin", "**/node_modules", "**/*.test", "**/*.prof", "**/cosign.key", "**/.env", "**/kubeconfig", ".git"}
}

// kept is what of an out folder stays here: keys, and what is only ever added to.
func kept() []string {
	return []string{"keys/cosign.key", "keys/passphrase", "logs", "rollouts"}
}

// Result is how a run ended.
type Result struct {
	Status int             // exit status of sluice
	Report json.RawMessage // what sluice run -o json printed; empty if it never came to that
	Log    string          // what it wrote on stderr
}

// Run does the job and brings the out folder back. A release that is not promoted
// is a result, no error.
func (s *Session) Run(ctx context.Context, j Job) (Result, error) {
	args, err := j.Rollout.Run(reports)
	if err != nil {
		return Result{}, err
	}
	if err := s.platform(ctx, j); err != nil {
		return Result{}, err
	}
	ctr := s.workbench(j).WithExec(args, dagger.ContainerWithExecOpts{
		Expect: dagger.ReturnTypeAny, InsecureRootCapabilities: toolbox.Serve.Privileged(),
	})
	var r Result
	if r.Status, err = ctr.ExitCode(ctx); err != nil {
		return r, broken(ctx, "running in the engine", err)
	}
	if r.Log, err = ctr.Stderr(ctx); err != nil {
		return r, broken(ctx, "reading what the engine wrote", err)
	}
	report, err := ctr.File(reports + "/run.json").Contents(ctx)
	if err != nil {
		return r, broken(ctx, "reading the result of the run", err)
	}
	r.Report = json.RawMessage(strings.TrimSpace(report))
	out := ctr.Directory("out")
	if len(j.Secrets) > 0 || len(j.Files) > 0 { // the keys are here already
		out = out.Filter(dagger.DirectoryFilterOpts{Exclude: kept()[:2]})
	}
	if _, err := out.Export(ctx, j.Out); err != nil {
		return r, broken(ctx, "bringing the out folder back", err)
	}
	return r, nil
}

// workbench is the container in which a job runs.
func (s *Session) workbench(j Job) *dagger.Container {
	c := s.client
	ctr := s.golang(j)
	if script := toolbox.Setup(toolbox.Serve); script != "" {
		ctr = ctr.WithNewFile(toolbox.Script, toolbox.SetupScript()).WithExec([]string{"sh", "-euc", script}).WithoutFile(toolbox.Script)
	}
	source := c.Host().Directory(j.Source, dagger.HostDirectoryOpts{Exclude: append(Excluded(), j.Exclude...)})
	ctr = ctr.
		WithDirectory(workdir, source).
		WithWorkdir(workdir).
		WithFile(onPath, c.Host().File(j.Binary), dagger.ContainerWithFileOpts{Permissions: 0o755})
	for _, v := range command.GitEnvironment() {
		ctr = ctr.WithEnvVariable(v.Name, v.Value)
	}
	if j.Commit != "" {
		ctr = ctr.WithNewFile(".git/HEAD", j.Commit+"\n").
			WithDirectory(".git/refs", c.Directory()).
			WithDirectory(".git/objects", c.Directory())
	}
	ctr = ctr.WithDirectory("out", c.Host().Directory(j.Out, dagger.HostDirectoryOpts{Exclude: kept(), NoCache: true}))
	for _, name := range slices.Sorted(maps.Keys(j.Secrets)) {
		ctr = ctr.WithSecretVariable(name, c.SetSecret(name, j.Secrets[name]))
	}
	for _, file := range slices.Sorted(maps.Keys(j.Files)) {
		ctr = ctr.WithMountedSecret(path.Join(workdir, file), c.SetSecret(file, j.Files[file]))
	}
	if j.Docker != "" {
		ctr = ctr.WithEnvVariable("DOCKER_CONFIG", docker).WithMountedSecret(docker+"/config.json", c.SetSecret("registry", j.Docker))
	}
	return ctr.WithEnvVariable("SLUICE_RUN", j.Run)
}

// golang is the image with Go's caches and where modules come from.
func (s *Session) golang(j Job) *dagger.Container {
	c := s.client
	ctr := c.Container()
	switch {
	case strings.HasSuffix(j.Base, ".tar"):
		ctr = ctr.Import(c.Host().File(j.Base))
	case j.Base != "":
		ctr = ctr.From(j.Base)
	default:
		ctr = ctr.From(toolbox.Base)
	}
	ctr = ctr.
		WithEnvVariable("GOMODCACHE", "/go/pkg/mod").
		WithEnvVariable("GOCACHE", goCache).
		WithEnvVariable("GOTOOLCHAIN", "local").
		WithMountedCache("/go/pkg/mod", c.CacheVolume("sluice-go-modules")).
		WithMountedCache(goCache, c.CacheVolume("sluice-go-build"))
	if j.CA != "" {
		ctr = ctr.WithFile(toolbox.Certificates, c.Host().File(j.CA))
	}
	proxy, folder := j.GoProxy, ""
	if u, err := url.Parse(proxy); err == nil && u.Scheme == "file" {
		proxy, folder = "", u.Path
		ctr = ctr.WithMountedDirectory(toolbox.ModulesDir, c.Host().Directory(folder))
	}
	if value := toolbox.GoProxy(folder != "", proxy); value != "" {
		ctr = ctr.WithEnvVariable("GOPROXY", value)
	}
	return ctr
}

// Problem is the last thing that a run complained about, without our own name.
func (r Result) Problem() string {
	text := ""
	for line := range strings.Lines(r.Log) {
		if rest, ours := strings.CutPrefix(strings.TrimSpace(line), "sluice: "); ours && !strings.HasPrefix(rest, "hint: ") {
			text = rest
		}
	}
	if text == "" {
		return fmt.Sprintf("sluice ended with status %d in the engine", r.Status)
	}
	return text
}
