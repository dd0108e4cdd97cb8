package agent

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/internal/confine"
	"github.com/sluice-cd/sluice/policies"
)

// profile is the list of system calls that a serving daemon needs.
func profile() (*confine.Profile, error) {
	raw, err := policies.FS.ReadFile("seccomp-probe.json")
	if err != nil {
		return nil, fmt.Errorf("reading seccomp profile: %w", err)
	}
	p, err := confine.ParseProfile(raw)
	if err != nil {
		return nil, err
	}
	return p.Serving(), nil
}

// keptCapabilities are those without which a repair would fail. CAP_BPF makes
// maps and loads programs; CAP_NET_ADMIN loads programs that see packets, and
// lists what is attached; without CAP_PERFMON the verifier refuses arithmetic
// with pointers into maps ("prohibited for !root").
func keptCapabilities() []confine.Capability {
	return []confine.Capability{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON}
}

// confine gives up what serving does not need.
func (a *Agent) confine() error {
	if a.cfg.UnsafeUnconfined {
		a.log.Warn("not confined: the daemon keeps all privileges")
		return nil
	}
	limits, err := a.rights()
	if err != nil {
		return err
	}
	report, err := confine.Apply(limits)
	if err != nil {
		return err
	}
	a.log.Info("confined", "capabilities", report.Capabilities, "calls", report.Calls, "landlock", report.Landlock)
	return nil
}

// onlyPins reports whether a folder is on a BPF file system, which holds nothing
// but pins.
func onlyPins(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && fs.Type == unix.BPF_FS_MAGIC
}

// rights is what the daemon keeps once it serves.
func (a *Agent) rights() (confine.Limits, error) {
	profile, err := profile()
	if err != nil {
		return confine.Limits{}, err
	}
	l := confine.Limits{
		Profile:      profile,
		Capabilities: keptCapabilities(),
		Read: append([]string{
			a.cfg.Cgroup, "/proc", "/sys", "/dev/null", "/dev/urandom", "/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf",
			"/etc/ssl", "/etc/pki", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/etc/localtime", "/usr/share/zoneinfo",
		}, append(a.cfg.TLS.folders(), a.cfg.Read...)...),
		Write: a.cfg.State,
	}
	if a.cfg.Pin != "" {
		above := filepath.Dir(a.cfg.Pin)
		l.Write = append(l.Write, a.cfg.Pin)
		l.Remove = append(l.Remove, above)
		if onlyPins(above) { // to make the folder again if somebody removes it
			l.Write = append(l.Write, above)
		}
	}
	if a.cfg.Pprof {
		l.Read = append(l.Read, "/proc/self/exe") // a profile names what was built
	}
	for _, address := range a.cfg.Listen {
		if path, ok := strings.CutPrefix(address, "unix:"); ok {
			l.Remove = append(l.Remove, filepath.Dir(path))
		}
	}
	return l, nil
}
