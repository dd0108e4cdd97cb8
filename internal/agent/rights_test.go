package agent

import (
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/confine"
)

func TestWhatADaemonKeepsIsWhatItWasToldToUse(t *testing.T) {
	fs, err := bpf.MountedBPFFS()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cfg                        Config
		read, write, remove, never []string
		notWritten                 string
	}{
		"a daemon that was told little": {
			cfg:  Config{Cgroup: "/sys/fs/cgroup/web", Listen: []string{"tcp:127.0.0.1:9465"}},
			read: []string{"/sys/fs/cgroup/web"}, never: []string{"/proc/self/exe", "/", "/run", "/etc", "/home"},
		},
		"pinned counters are written, and their folder goes at the end": {
			cfg:   Config{Pin: "/sys/fs/bpf/sluice/probe"},
			write: []string{"/sys/fs/bpf/sluice/probe"}, remove: []string{"/sys/fs/bpf/sluice"},
		},
		"a folder of pins that somebody removes is made again": {
			cfg:   Config{Pin: fs + "/sluice-probe"},
			write: []string{fs + "/sluice-probe", fs}, remove: []string{fs},
		},
		"what is above a BPF file system is not written": {
			cfg:   Config{Pin: fs},
			write: []string{fs}, remove: []string{filepath.Dir(fs)}, notWritten: filepath.Dir(fs),
		},
		"a socket is removed from its folder": {
			cfg:    Config{Listen: []string{"tcp::9465", "unix:/run/sluice/probe.sock"}},
			remove: []string{"/run/sluice"}, never: []string{"/run"},
		},
		"certificates are replaced in their folders": {
			cfg:  Config{TLS: TLS{Cert: "/certs/own/tls.crt", Key: "/keys/tls.key", ClientCA: "/certs/ca/ca.crt"}},
			read: []string{"/certs/own", "/keys", "/certs/ca"}, never: []string{"/certs", "."},
		},
		"the history is written and its files are read": {
			cfg:  Config{State: []string{"/var/lib/sluice"}, Read: []string{"/etc/etcd/ca.pem"}},
			read: []string{"/etc/etcd/ca.pem"}, write: []string{"/var/lib/sluice"},
		},
		"a profile names what was built": {cfg: Config{Pprof: true}, read: []string{"/proc/self/exe"}},
	} {
		a, _ := quietAgent(tt.cfg)
		got, err := a.rights()
		if err != nil {
			t.Fatal(err)
		}
		for kind, of := range map[string][2][]string{"read": {got.Read, tt.read}, "write": {got.Write, tt.write}, "remove": {got.Remove, tt.remove}} {
			for _, path := range of[1] {
				if !slices.Contains(of[0], path) {
					t.Errorf("%s: it may not %s %s, only %v", name, kind, path, of[0])
				}
			}
			for _, path := range tt.never {
				if slices.Contains(of[0], path) {
					t.Errorf("%s: it may %s %s", name, kind, path)
				}
			}
		}
		if tt.notWritten != "" && slices.Contains(got.Write, tt.notWritten) {
			t.Errorf("%s: it may write %s", name, tt.notWritten)
		}
		if tt.write == nil && len(got.Write) > 0 {
			t.Errorf("%s: it may write %v", name, got.Write)
		}
		want := []confine.Capability{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON}
		if !slices.Equal(got.Capabilities, want) || got.Profile == nil {
			t.Errorf("%s: it keeps %v and the profile %v", name, got.Capabilities, got.Profile)
		}
	}
}
