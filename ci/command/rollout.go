package command

import (
	"fmt"
	"net/url"
	"strings"
)

// Rollout is a version that is rolled out beside a stable one, under load.
type Rollout struct {
	Stable, Version string
	StableEnv, Env  []string // NAME=VALUE for the service
	Args            []string // further arguments of the service, for Run
	File            string   // the configuration, for Run; empty: sluice.yaml
	Reproduce       bool     // build everything twice and compare, for Run
	URL             string   // where the load goes
	Rate            int      // requests a second
}

// prepare gives a container what a rollout needs of the kernel and a container
// has not of itself: control groups of version 2, and the loopback device.
const prepare = `
grep -q ' cgroup2 ' /proc/self/mounts || { mkdir -p /run/cgroup2; mount -t cgroup2 none /run/cgroup2; }
test -e /sys/fs/bpf && grep -q ' /sys/fs/bpf ' /proc/self/mounts || mount -t bpf bpf /sys/fs/bpf
`

// Canary is the command that rolls a version out beside a stable one, judges
// it, and promotes it or rolls it back. Both are releases in the out folder.
// Its exit status is sluice's: the verdict. The result is report/canary.json.
func (r Rollout) Canary(report string) ([]string, error) {
	for _, v := range []string{r.Stable, r.Version} {
		if err := CheckVersion(v); err != nil {
			return nil, err
		}
	}
	if r.Stable == r.Version {
		return nil, fmt.Errorf("stable and canary are both %s: a rollout needs two versions", r.Version)
	}
	if err := checkLoad(r.URL, r.Rate); err != nil {
		return nil, err
	}
	stable, err := rollout("deploy", r.Stable, r.StableEnv)
	if err != nil {
		return nil, err
	}
	canary, err := rollout("deploy", r.Version, r.Env)
	if err != nil {
		return nil, err
	}
	script := "set -eu" + prepare +
		"mkdir -p " + quote(report) + "\n" +
		words(stable) + " >" + quote(report+"/stable.json") + " || exit 2\n" +
		r.underLoad(canary, report, "canary.json")
	return []string{"sh", "-c", script}, nil
}

// Run is the command that does the whole list for a version, from source to a
// verdict. What served before is what the ledger in the out folder says. Its exit
// status is sluice's; the result is report/run.json.
func (r Rollout) Run(report string) ([]string, error) {
	if err := CheckVersion(r.Version); err != nil {
		return nil, err
	}
	if err := checkLoad(r.URL, r.Rate); err != nil {
		return nil, err
	}
	run, err := rollout("run", r.Version, r.Env)
	if err != nil {
		return nil, err
	}
	if r.File != "" {
		run = append(run, "--file", r.File)
	}
	if r.Reproduce {
		run = append(run, "--verify-reproducible")
	}
	if len(r.Args) > 0 {
		run = append(append(run, "--"), r.Args...)
	}
	script := "set -eu" + prepare + "mkdir -p " + quote(report) + "\n" + r.underLoad(run, report, "run.json")
	return []string{"sh", "-c", script}, nil
}

// underLoad is a command with requests all the time, and nothing left after it.
func (r Rollout) underLoad(args []string, report, result string) string {
	load := []string{"sluice", "load", "--rate", fmt.Sprint(r.Rate), r.URL}
	return words(load) + " >" + quote(report+"/load.txt") + " 2>&1 &\n" +
		"load=$!\nstatus=0\n" +
		words(args) + " >" + quote(report+"/"+result) + " || status=$?\n" +
		"kill -INT $load || true\nwait $load || true\n" +
		"sluice down || true\nexit $status"
}

// Rollback is the command that goes back to the version before, or to a named
// one, as the ledger in the out folder has them.
func Rollback(to string) ([]string, error) {
	args := []string{"sluice", "rollback", "-o", "json"}
	if to != "" {
		if err := CheckVersion(to); err != nil {
			return nil, err
		}
		args = append(args, "--to", to)
	}
	return []string{"sh", "-c", "set -eu" + prepare + "status=0\n" + words(args) + " || status=$?\nsluice down || true\nexit $status"}, nil
}

// Gate is the command that judges a recorded rollout again: the newest, or the
// newest of a version.
func Gate(version string, asConfigured bool) ([]string, error) {
	args := []string{"sluice", "gate", "-o", "json"}
	if version != "" {
		if err := CheckVersion(version); err != nil {
			return nil, err
		}
		args = append(args, "--version", version)
	}
	if asConfigured {
		args = append(args, "--as-configured")
	}
	return args, nil
}

// LoadTest is the command that lets this kernel load an object, after trying
// what else a rollout needs of it.
func LoadTest(object string) []string {
	return []string{"sh", "-c", "set -eu" + prepare + words([]string{"sluice", "bpf", "check", object}) + "\nsluice doctor"}
}

func rollout(step, version string, env []string) ([]string, error) {
	args := []string{"sluice", step, "--version", version, "-o", "json"}
	for _, e := range env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return nil, fmt.Errorf("environment %q is not NAME=VALUE", e)
		}
		args = append(args, "--env", e)
	}
	return args, nil
}

func checkLoad(address string, rate int) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return fmt.Errorf("load goes to %q, which is no address of the service (write http://127.0.0.1:8080/, as deploy.local.listen has it)", address)
	}
	if rate < 1 {
		return fmt.Errorf("a load of %d requests a second judges nothing (give --rate=200)", rate)
	}
	return nil
}

// words are arguments as a shell reads them.
func words(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = quote(a)
	}
	return strings.Join(quoted, " ")
}

func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
