package agent

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/export"
	"github.com/sluice-cd/sluice/internal/objects"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// endedConfig is that of a lab's agent, which has ended.
func endedConfig(t *testing.T) Config {
	t.Helper()
	l := newLab(t, nil)
	cfg := l.agent.cfg
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestRunMeasuresUntilItIsAskedToEnd(t *testing.T) {
	cfg := endedConfig(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	l := &lab{t: t, socket: strings.TrimPrefix(cfg.Listen[0], "unix:"), log: &safeBuffer{}}
	l.eventually("the agent to be ready", func() bool { return l.get("/readyz") == http.StatusOK })
	if attached(t, cfg.Cgroup) == 0 {
		t.Error("nothing is attached")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("it ends with %v", err)
	}
	if n := attached(t, cfg.Cgroup); n != 0 {
		t.Errorf("%d programs are left attached", n)
	}
}

func TestRunThatCannotServe(t *testing.T) {
	cfg := endedConfig(t)
	for name, tt := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"an address that cannot be listened on": {func(c *Config) { c.Listen = []string{"tcp:nowhere"} }, "listening on tcp:nowhere"},
		"a group that is not there":             {func(c *Config) { c.Cgroup += "/missing" }, "attaching the probe to "},
		"an object that is none":                {func(c *Config) { c.Object = Object{Bytes: []byte("x"), Origin: "x.o, signed"} }, "loading the probe (x.o, signed): "},
		"a collector that has no address":       {func(c *Config) { c.OTLP = export.OTLPOptions{Endpoint: "collector"} }, `OTLP endpoint "collector" is no URL`},
	} {
		bad := cfg
		tt.change(&bad)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := Run(ctx, bad)
		cancel()
		if err == nil || !strings.HasPrefix(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
		if n := attached(t, cfg.Cgroup); n != 0 {
			t.Fatalf("%s: %d programs are left attached", name, n)
		}
	}
}

func TestAListenerThatFailsEndsTheDaemonAndSaysWhich(t *testing.T) {
	cfg := endedConfig(t)
	a, _ := quietAgent(cfg)
	listeners, err := openListeners(a.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.load(); err != nil {
		t.Fatal(err)
	}
	closeAll(listeners)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = a.serve(ctx, listeners)
	if err := a.unload(); err != nil {
		t.Error(err)
	}
	if err == nil || !strings.HasPrefix(err.Error(), "serving "+cfg.Listen[0]) {
		t.Errorf("it ends with %v", err)
	}
}

func TestASelfTestOfAGroupThatIsNotMeasuredSaysHowManyItMissed(t *testing.T) {
	l := newLab(t, nil)
	a, _ := quietAgent(l.agent.cfg)
	a.probe = l.agent.probe
	l.agent.mu.Lock() // there is one probe
	defer l.agent.mu.Unlock()
	for name, tt := range map[string]struct {
		group string
		says  string
		cause bool
	}{
		"a group beside the one that is measured": {testenv.TempCgroup(t), "self-test: 3 requests were sent over loopback, the probe counted 0", false},
		"no group can be made":                    {"/proc", "the probe counted 0; in a control group of their own: ", true},
	} {
		a.cfg.Cgroup = tt.group
		err := a.selfTest()
		var failed *SelfTestError
		if !errors.As(err, &failed) || failed.Sent != 3 || failed.Counted != 0 || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if (errors.Unwrap(failed) != nil) != tt.cause || !strings.Contains(failed.Hint(), "--cgroup") {
			t.Errorf("%s: cause %v, hint %q", name, errors.Unwrap(failed), failed.Hint())
		}
		if tt.group != "/proc" && len(selfTestGroups(tt.group)) != 0 {
			t.Errorf("%s: its group is left", name)
		}
	}
}

// The child of a self-test in this process: it answers until its parent is gone.
func TestTheChildOfASelfTestEndsWithItsParent(t *testing.T) {
	if SelfTestChild() {
		t.Fatal("a process that nobody started for it is a child of a self-test")
	}
	ours, parent, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	said, says, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func(in, out *os.File) { os.Stdin, os.Stdout = in, out }(os.Stdin, os.Stdout)
	os.Stdin, os.Stdout = ours, says
	t.Setenv(selfTestEnv, "1")
	done := make(chan bool, 1)
	go func() { done <- SelfTestChild() }()
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netip.ParseAddrPort(strings.TrimSpace(line))
	if err != nil || addr.Addr().String() != selfTestHost {
		t.Fatalf("it says %q: %v", line, err)
	}
	if err := request(addr); err != nil {
		t.Errorf("it does not answer: %v", err)
	}
	if err := parent.Close(); err != nil {
		t.Fatal(err)
	}
	if !<-done {
		t.Error("it was no child of a self-test")
	}
	if err := request(addr); err == nil {
		t.Error("it still answers")
	}
}

func TestWhatSelfTestsLeftIsRemoved(t *testing.T) {
	parent := testenv.TempCgroup(t)
	for _, name := range []string{selfTestPrefix + "1", selfTestPrefix + "2", "web"} {
		if err := os.Mkdir(filepath.Join(parent, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.Open(filepath.Join(parent, selfTestPrefix+"2"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	busy := exec.Command("sleep", "1000")
	busy.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- busy.Wait() }()
	left := func() (names []string) {
		entries, err := os.ReadDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				names = append(names, e.Name())
			}
		}
		return names
	}
	sweepSelfTests(parent)
	if got := left(); !slices.Equal(got, []string{selfTestPrefix + "2", "web"}) {
		t.Errorf("after sweeping there is %v, want the one in which something runs", got)
	}
	if err := CleanSelfTests(parent); err != nil {
		t.Fatal(err)
	}
	if got := left(); !slices.Equal(got, []string{"web"}) {
		t.Errorf("after cleaning there is %v", got)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("what ran in it still runs")
	}
}

func TestAHistoryThatIsBehindLosesEventsAndSaysSo(t *testing.T) {
	history, err := objects.Dir(t.TempDir(), "node-1")
	if err != nil {
		t.Fatal(err)
	}
	a, text := quietAgent(Config{History: history})
	for range cap(a.notes.queue) {
		a.note(markLoaded(BuiltIn()))
	}
	if strings.Contains(text.String(), "is behind") {
		t.Error("it says so before the queue is full")
	}
	a.note(markLoaded(BuiltIn()))
	if n := strings.Count(text.String(), "is behind"); n != 1 {
		t.Errorf("the log says so %d times:\n%s", n, text)
	}
	without, text := quietAgent(Config{})
	for range 2 * cap(a.notes.queue) {
		without.note(markLoaded(BuiltIn()))
	}
	if text.String() != "" {
		t.Errorf("without a history: %s", text)
	}
}

func TestWhatIsQueuedAtTheEndIsWritten(t *testing.T) {
	history, err := objects.Dir(t.TempDir(), "node-1")
	if err != nil {
		t.Fatal(err)
	}
	a, text := quietAgent(Config{History: history})
	a.note(storeObject(BuiltIn()))
	for range 20 {
		a.note(markLoaded(BuiltIn()))
	}
	a.note(markBad(BuiltIn(), "the last word"))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	a.writeNotes(ended)
	list, err := history.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("the history has %+v: %v\n%s", list, err, text)
	}
	events := list[0].Events
	if len(events) < 20 || events[len(events)-1].Reason != "the last word" {
		t.Errorf("the history has %d events: %+v", len(events), events)
	}
}

func TestAWorkloadWhoseGroupIsGoneIsGivenBack(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Interval = time.Hour })
	l.request(3)
	l.eventually("three requests", func() bool { return requests(l.snapshot()) == 3 })
	a := l.agent
	a.mu.Lock()
	defer a.mu.Unlock()
	snap, err := a.probe.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	measured := a.cfg.Cgroup
	defer func() { a.cfg.Cgroup = measured }()
	a.cfg.Cgroup = testenv.TempCgroup(t) // seen from there, the service's group is gone
	before, sent := a.forgotten, segments(snap)
	began := time.Now().Add(time.Hour)
	a.forget(began, snap.Workloads)
	if len(snap.Workloads) == 0 {
		t.Fatal("it is forgotten at once")
	}
	a.forget(began.Add(forgetAfter), snap.Workloads)
	if len(snap.Workloads) != 0 {
		t.Errorf("a minute later there is %v", snap.Workloads)
	}
	if sent.Sent == 0 || a.forgotten != before.plus(sent) {
		t.Errorf("what it had sent was %+v, remembered is %+v and before it %+v", sent, a.forgotten, before)
	}
	if snap, err = a.probe.Snapshot(); err != nil || len(snap.Workloads) != 0 {
		t.Errorf("the kernel still counts %v: %v", snap.Workloads, err)
	}
}

func TestGroupsThatCannotBeListedForgetNothing(t *testing.T) {
	a, text := quietAgent(Config{Cgroup: filepath.Join(t.TempDir(), "missing")})
	web := probe.Workload{Cgroup: 1, Addr: netip.MustParseAddrPort("10.0.0.1:80")}
	counted := map[probe.Workload]probe.Counts{web: {Requests: 7}}
	for _, after := range []time.Duration{0, forgetAfter, 3 * forgetAfter} {
		a.forget(noon.Add(after), counted)
	}
	if len(counted) != 1 || !strings.Contains(text.String(), "no workload is forgotten") {
		t.Errorf("counted is %v:\n%s", counted, text)
	}
}

func TestObjectsThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, size int64) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	empty, large, some, missing := file("empty", 0), file("large", maxObjectFile+1), file("some", 100), filepath.Join(dir, "missing")
	signed := func(object, bundle string) error { _, err := SignedObject(object, bundle); return err }
	bound := func(object string, digest bpf.Digest) error { _, err := BoundObject(object, digest); return err }
	var digest *bpf.DigestError
	if err := bound(some, "sha256:00"); !errors.As(err, &digest) || digest.Want != "sha256:00" {
		t.Errorf("another digest: %v", err)
	}
	for name, tt := range map[string]struct {
		err  error
		says string
	}{
		"no object":                       {signed(missing, some), "reading the eBPF object: open " + missing},
		"no signature":                    {signed(some, missing), "reading the signature of the eBPF object: open " + missing},
		"an empty signature":              {signed(some, empty), "reading the signature of the eBPF object: " + empty + " is empty"},
		"no object of a digest":           {bound(missing, "sha256:00"), "reading the eBPF object: open " + missing},
		"a folder":                        {bound(dir, "sha256:00"), "reading the eBPF object: read " + dir + ": is a directory"},
		"more than an object may have":    {bound(large, "sha256:00"), large + " has more than 16777216 bytes"},
		"the right digest, but no object": {bound(some, bpf.DigestOf(make([]byte, 100))), "not a usable eBPF object"},
	} {
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, tt.err, tt.says)
		}
	}
}
