package source

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/testenv"
	"github.com/sluice-cd/sluice/internal/wire"
)

// serviceEnv makes the test binary a pod: a service at that address.
const serviceEnv = "SLUICE_TEST_SERVICE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(herdEnv); dir != "" {
		serveHerd(dir)
	}
	if ip := os.Getenv(serviceEnv); ip != "" {
		l, err := net.Listen("tcp", ip+":0")
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr())
		panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/bad" {
				w.WriteHeader(http.StatusInternalServerError)
			}
			_, _ = io.WriteString(w, "hello")
		})))
	}
	code := m.Run()
	_ = os.RemoveAll(buildDir) // "" if nothing was built, which removes nothing
	os.Exit(code)
}

var buildDir string

// daemon builds sluice-probe as it is shipped.
var daemon = sync.OnceValues(func() (string, error) {
	var err error
	if buildDir, err = os.MkdirTemp("", "sluice-source-test-"); err != nil {
		return "", err
	}
	program := filepath.Join(buildDir, "sluice-probe")
	cmd := exec.Command("go", "build", "-o", program, "../../cmd/sluice-probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return program, os.Chmod(buildDir, 0o755)
})

// realNode is a control group with pods in it, and the daemon that measures it.
type realNode struct {
	t      *testing.T
	name   string
	group  string
	socket string
	pin    string
	cmd    *exec.Cmd
	log    *bytes.Buffer
}

// newRealNode starts a daemon; pinned counters outlive it.
func newRealNode(t *testing.T, name string, pinned bool) *realNode {
	t.Helper()
	n := &realNode{t: t, name: name, group: testenv.TempCgroup(t), socket: filepath.Join(t.TempDir(), "probe.sock"), pin: "none"}
	if pinned {
		fs, err := bpf.MountedBPFFS()
		if err != nil {
			t.Fatal(err)
		}
		n.pin = filepath.Join(fs, filepath.Base(n.group))
		t.Cleanup(func() { _ = os.RemoveAll(n.pin) })
	}
	n.start()
	t.Cleanup(n.stop)
	return n
}

func (n *realNode) start() {
	n.t.Helper()
	program, err := daemon()
	if err != nil {
		n.t.Fatal(err)
	}
	n.log = &bytes.Buffer{}
	n.cmd = exec.Command(program, "--cgroup", n.group, "--node", n.name, "--pin", n.pin, "--history", "none", "--budget", "0%", "--listen", "unix:"+n.socket)
	n.cmd.Stderr, n.cmd.SysProcAttr = n.log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	client, err := wire.Dial("unix:"+n.socket, wire.Config{})
	if err != nil {
		n.t.Fatal(err)
	}
	defer client.Close()
	for begin := time.Now(); client.Healthy(context.Background()) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > patience {
			n.t.Fatalf("the daemon of node %s does not serve: %s", n.name, n.log)
		}
	}
}

// kill ends the daemon as a kernel does that is out of memory.
func (n *realNode) kill() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
}

func (n *realNode) stop() {
	_ = n.cmd.Process.Signal(os.Interrupt)
	_ = n.cmd.Wait() // a killed one was waited for
	if n.t.Failed() {
		n.t.Logf("node %s: %s", n.name, n.log)
	}
}

// pod starts a service on the node, at an address of its own.
func (n *realNode) pod(ip string) netip.AddrPort {
	n.t.Helper()
	group := filepath.Join(n.group, "pod-"+ip)
	if err := os.Mkdir(group, 0o755); err != nil {
		n.t.Fatal(err)
	}
	dir, err := os.Open(group)
	if err != nil {
		n.t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), serviceEnv+"="+ip)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		n.t.Fatal("the pod did not start")
	}
	return netip.MustParseAddrPort(lines.Text())
}

// load asks pods until it is told to stop, and knows how often.
type load struct {
	sent, bad [2]atomic.Uint64
	stop      func()
}

func newLoad(t *testing.T, of [2][]netip.AddrPort) *load {
	l := &load{}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for a, pods := range of {
		for _, pod := range pods {
			group.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					path := "/"
					if i%10 == 9 {
						path = "/bad"
						l.bad[a].Add(1)
					}
					l.sent[a].Add(1)
					get(t, "http://"+pod.String()+path)
					time.Sleep(2 * time.Millisecond)
				}
			})
		}
	}
	l.stop = func() { cancel(); group.Wait() }
	t.Cleanup(l.stop)
	return l
}

func get(t *testing.T, url string) {
	resp, err := http.Get(url)
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}

// realFleet has a pod of the stable version on each of two nodes, and two of the
// canary's on one of them and a third.
func realFleet(t *testing.T, pinned bool) (nodes []*realNode, c *cluster) {
	testenv.NeedRoot(t)
	c = &cluster{}
	for i, name := range []string{"one", "two", "three"} {
		n := newRealNode(t, name, pinned)
		nodes = append(nodes, n)
		c.nodes = append(c.nodes, Node{name, "unix:" + n.socket})
		if i < 2 {
			c.stable = append(c.stable, n.pod(fmt.Sprintf("127.40.%d.1", i)))
		}
		if i > 0 {
			c.canary = append(c.canary, n.pod(fmt.Sprintf("127.40.%d.2", i)))
		}
	}
	return nodes, c
}

// Three daemons under traffic, one of which is killed twice: every request is in
// one block.
func TestRealDaemonsOneOfThemKilledLoseNothing(t *testing.T) {
	for round := range testenv.Chaos(t, testenv.Kill, 1) {
		t.Run(fmt.Sprint("round ", round), killOneOfThree)
	}
}

// One that is stopped keeps a block open, and what was counted meanwhile is in it.
func TestARealDaemonThatIsStoppedKeepsTheBlockOpen(t *testing.T) {
	nodes, c := realFleet(t, false)
	s, err := NewNodes(t.Context(), c, NodesConfig{Block: 100 * time.Millisecond, Grace: time.Minute, Object: bpf.DigestOf(probe.Object())})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l := newLoad(t, [2][]netip.AddrPort{c.stable, c.canary})
	var sum [4]uint64
	add := func() {
		obs := observe(t, s)
		if obs.Fault != "" {
			t.Errorf("fault %q", obs.Fault)
		}
		for i, n := range numbers(obs) {
			sum[i] += n
		}
	}
	add()
	for i := range testenv.Chaos(t, testenv.Stop, 2) {
		stopped := nodes[i%len(nodes)].cmd.Process
		if err := stopped.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		again := time.AfterFunc(time.Duration(500+50*i%1000)*time.Millisecond, func() { _ = stopped.Signal(syscall.SIGCONT) })
		add()
		again.Stop()
		_ = stopped.Signal(syscall.SIGCONT)
	}
	l.stop()
	add()
	add() // a daemon tells one reading for 100 ms
	if want := [4]uint64{l.sent[0].Load(), l.bad[0].Load(), l.sent[1].Load(), l.bad[1].Load()}; sum != want || want[0] == 0 {
		t.Errorf("%v were counted, %v sent", sum, want)
	}
}

func killOneOfThree(t *testing.T) {
	nodes, c := realFleet(t, true)
	cfg := NodesConfig{Block: 300 * time.Millisecond, Grace: patience, Object: bpf.DigestOf(probe.Object())}
	s, err := NewNodes(t.Context(), c, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l := newLoad(t, [2][]netip.AddrPort{c.stable, c.canary})
	var sum [4]uint64
	end, longest := s.end, time.Duration(0)
	var back sync.WaitGroup
	defer back.Wait()
	for i := range 12 {
		switch i {
		case 3, 8:
			nodes[1].kill()
		case 4:
			nodes[1].start()
		case 9:
			back.Go(func() { time.Sleep(time.Second); nodes[1].start() }) // while the block is open
		case 11:
			l.stop()
		}
		if i == 3 || i == 8 {
			continue
		}
		obs := observe(t, s)
		if obs.Fault != "" || !obs.Start.Equal(end) {
			t.Errorf("block %d from %v to %v: fault %q", i, obs.Start, obs.End, obs.Fault)
		}
		end, longest = obs.End, max(longest, obs.End.Sub(obs.Start))
		for i, n := range numbers(obs) {
			sum[i] += n
		}
	}
	want := [4]uint64{l.sent[0].Load(), l.bad[0].Load(), l.sent[1].Load(), l.bad[1].Load()}
	if sum != want || want[2] < 100 {
		t.Errorf("%v were counted, %v sent", sum, want)
	}
	t.Logf("%d requests, the longest block was open for %v", sum[0]+sum[2], longest)
}

func TestARealDaemonThatLosesItsCountersIsAFault(t *testing.T) {
	nodes, c := realFleet(t, false)
	s, err := NewNodes(t.Context(), c, NodesConfig{Block: 100 * time.Millisecond, Grace: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	block(t, s)
	nodes[1].kill()
	nodes[1].start()
	if obs := observe(t, s); !strings.Contains(obs.Fault, `node two: the counters of node "two" are not those of the reading before: the probe was started anew`) || numbers(obs) != [4]uint64{} {
		t.Errorf("%v, fault %q", numbers(obs), obs.Fault)
	}
}

func TestARealDaemonSaysHowManyWorkloadsItCanTellApart(t *testing.T) {
	_, c := realFleet(t, false)
	s, err := NewNodes(t.Context(), c, NodesConfig{Block: 100 * time.Millisecond, Grace: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, pod := range c.canary {
		get(t, "http://"+pod.String())
	}
	for begin := time.Now(); s.nodes["two"].workloads*s.nodes["three"].workloads == 0 && time.Since(begin) < patience; {
		block(t, s)
	}
	for name, n := range s.nodes {
		if n.room != 256 || n.full() || (n.workloads == 0) != (name == "one") {
			t.Errorf("node %s: %d workloads, room for %d", name, n.workloads, n.room)
		}
	}
}

func TestARealDaemonWithAnotherObjectIsAMismatch(t *testing.T) {
	_, c := realFleet(t, false)
	s, err := NewNodes(t.Context(), c, NodesConfig{Block: 100 * time.Millisecond, Grace: patience, Object: bpf.DigestOf(nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	obs := observe(t, s)
	if !obs.Mismatch || strings.Count(obs.Fault, "the probe's object is") != len(c.nodes) {
		t.Errorf("fault %q", obs.Fault)
	}
	if !slices.ContainsFunc(c.nodes, func(n Node) bool { return strings.Contains(obs.Fault, n.Name) }) {
		t.Errorf("fault %q names no node", obs.Fault)
	}
}

// Somebody with the privilege puts another program in the place of one of the
// probe's; the daemon puts it right at its next look, which is what is told.
func TestAProgramThatIsReplacedOnARealNodeIsAMismatch(t *testing.T) {
	nodes, c := realFleet(t, false)
	s, err := NewNodes(t.Context(), c, NodesConfig{Block: 100 * time.Millisecond, Grace: patience, Object: bpf.DigestOf(probe.Object())})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	block(t, s)
	nodes[2].attack()
	begin := time.Now()
	obs := observe(t, s)
	for ; obs.Fault == "" && time.Since(begin) < patience; obs = observe(t, s) {
	}
	if !obs.Mismatch || !strings.Contains(obs.Fault, "node three: ") {
		t.Errorf("fault %q", obs.Fault)
	}
	t.Logf("noticed after %v: %s", time.Since(begin).Round(time.Millisecond), obs.Fault)
}

// attack replaces the program that sees what comes in by one that sees nothing.
func (n *realNode) attack() {
	n.t.Helper()
	client, err := wire.Dial("unix:"+n.socket, wire.Config{})
	if err != nil {
		n.t.Fatal(err)
	}
	defer client.Close()
	status, err := client.Snapshot(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	at := slices.IndexFunc(status.Loaded.Programs, func(p bpf.LoadedProgram) bool { return p.Name == "ingress" })
	blind, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetIngress, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	defer blind.Close()
	attached, err := link.NewFromID(link.ID(status.Loaded.Programs[at].LinkID))
	if err != nil {
		n.t.Fatal(err)
	}
	defer attached.Close()
	if err := attached.Update(blind); err != nil {
		n.t.Fatal(err)
	}
}
