package confine

import (
	"slices"
	"strings"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"

	"github.com/sluice-cd/sluice/policies"
)

func shipped(t testing.TB) []byte {
	t.Helper()
	raw, err := policies.FS.ReadFile("seccomp-probe.json")
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestTheShippedProfile(t *testing.T) {
	p, err := ParseProfile(shipped(t))
	if err != nil {
		t.Fatal(err)
	}
	own := p.Serving()
	for _, name := range []string{"arch_prctl", "bind", "capset", "execve", "landlock_restrict_self", "listen", "seccomp"} {
		if !slices.Contains(p.Names(), name) || slices.Contains(own.Names(), name) {
			t.Errorf("%s is not for the start only", name)
		}
	}
	for _, name := range []string{"ptrace", "mount", "kill", "setuid", "unshare", "process_vm_readv", "clone3", "io_uring_setup"} {
		if slices.Contains(p.Names(), name) {
			t.Errorf("%s is allowed", name)
		}
	}
	for name, machine := range map[string]*arch.Info{"amd64": arch.X86_64, "arm64": arch.AARCH64} {
		policy, calls := own.policy(machine)
		if _, err := policy.Assemble(); name == "amd64" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if missing := len(own.Names()) - calls; missing > 0 {
			t.Errorf("%s: the profile names %d calls that it does not have", name, missing)
		}
	}
}

func TestProfilesThatAreNoAllowListAreRefused(t *testing.T) {
	group := func(body string) string {
		return `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"syscalls":[` + body + `]}`
	}
	read := `{"names":["read"],"action":"SCMP_ACT_ALLOW"}`
	arg := func(op string) string {
		return group(`{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[` + op + `]}`)
	}
	for name, tt := range map[string]struct{ raw, want string }{
		"an allow-list":                           {group(read), ""},
		"an argument":                             {arg(`{"index":0,"value":1,"op":"SCMP_CMP_EQ"}`), ""},
		"a bit that must be off":                  {arg(`{"index":0,"value":4,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}`), ""},
		"a bit that must be on":                   {arg(`{"index":0,"value":4,"valueTwo":4,"op":"SCMP_CMP_MASKED_EQ"}`), ""},
		"two bits that must be on":                {arg(`{"index":0,"value":6,"valueTwo":6,"op":"SCMP_CMP_MASKED_EQ"}`), "of one bit"},
		"another comparison":                      {arg(`{"index":0,"value":1,"op":"SCMP_CMP_GT"}`), "SCMP_CMP_GT"},
		"an argument too many":                    {arg(`{"index":6,"value":1,"op":"SCMP_CMP_EQ"}`), "argument 6"},
		"nothing allowed":                         {group(""), "no system call is allowed"},
		"everything allowed":                      {`{"defaultAction":"SCMP_ACT_ALLOW"}`, "the default is"},
		"killing by default":                      {`{"defaultAction":"SCMP_ACT_KILL"}`, "the default is"},
		"another error number":                    {`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38}`, "want SCMP_ACT_ERRNO 1"},
		"a denial":                                {group(`{"names":["read"],"action":"SCMP_ACT_ERRNO"}`), "group 0 has action"},
		"a misspelt call":                         {group(`{"names":["raed"],"action":"SCMP_ACT_ALLOW"}`), `no system call "raed"`},
		"a call twice":                            {group(read + "," + read), "read is there twice"},
		"a condition that is void":                {group(read + `,{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}`), "always and under a condition"},
		"an unknown field":                        {group(`{"names":["read"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_BPF"]}}`), "unknown field"},
		"something behind it":                     {group(read) + "{}", "something follows"},
		"no JSON":                                 {"read, write", "invalid character"},
		"a call that only one architecture knows": {group(`{"names":["epoll_wait"],"action":"SCMP_ACT_ALLOW"}`), ""},
	} {
		_, err := ParseProfile([]byte(tt.raw))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add(shipped(f))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := ParseProfile(raw)
		if err != nil {
			return
		}
		policy, calls := p.policy(arch.X86_64)
		if calls == 0 {
			return // all of it is arm64's
		}
		if _, err := policy.Assemble(); err != nil {
			t.Errorf("accepted, but: %v", err)
		}
	})
}
