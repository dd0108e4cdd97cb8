package local

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/cgroup"
	"github.com/sluice-cd/sluice/internal/testenv"
)

var digest = sync.OnceValues(func() (string, error) {
	raw, err := os.ReadFile("/proc/self/exe")
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), err
})

// lab is a service name and a front of one test. When the test ends, nothing of
// it may be left on the machine.
type lab struct {
	*testing.T
	cfg Config
}

func newLab(t *testing.T, host string) lab {
	t.Helper()
	testenv.NeedRoot(t)
	front := freeFront(t, host)
	name := fmt.Sprintf("test-%d-%d", os.Getpid(), front.Port())
	b := lab{t, Config{Name: name, Front: front, Out: t.TempDir(), Drain: 2 * time.Second}}
	t.Cleanup(func() {
		b.down()
		if left := b.traces(); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	return b
}

// fronts is how many fronts the tests have taken.
var fronts atomic.Int32

// freeFront is an address on which nobody listens. Its port is below the range
// from which the kernel gives ports to clients and to those who name none.
func freeFront(t *testing.T, host string) netip.AddrPort {
	t.Helper()
	var last error
	for range 100 {
		port := 10_000 + (os.Getpid()*100+int(fronts.Add(1)))%8000
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			defer l.Close()
			return l.Addr().(*net.TCPAddr).AddrPort()
		}
		last = err
	}
	t.Skipf("needs %s: %v", host, last)
	return netip.AddrPort{}
}

// patience is how long a test waits for what has to come, on however busy a
// machine.
const patience = 2 * time.Minute

// down ends the service whatever state it is in.
func (b lab) down() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	target, err := Open(ctx, b.cfg)
	if err != nil {
		b.Errorf("opening to clean up: %v", err)
		return
	}
	defer target.Close()
	if err := target.Down(ctx); err != nil {
		b.Errorf("cleaning up: %v", err)
	}
}

// traces lists what there is of the service on this machine.
func (b lab) traces() (left []string) {
	root, err := cgroup.Root()
	if err != nil {
		b.Fatal(err)
	}
	mount, err := bpf.MountedBPFFS()
	if err != nil {
		b.Fatal(err)
	}
	for _, dir := range []string{root + "/sluice", mount + "/sluice", runDir} {
		if _, err := os.Stat(filepath.Join(dir, b.cfg.Name)); err == nil {
			left = append(left, filepath.Join(dir, b.cfg.Name))
		}
	}
	return left
}

func (b lab) open() *Target {
	b.Helper()
	t, err := Open(b.Context(), b.cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = t.Close() })
	return t
}

// service is a version on the port that all of them ask for.
func (b lab) service(version string, env map[string]string) Service {
	b.Helper()
	sum, err := digest()
	if err != nil {
		b.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	all := map[string]string{"TEST_SERVICE": "1", "VERSION": version, "LISTEN": ":18080"}
	maps.Copy(all, env)
	return Service{
		Version: version, Binary: exe, SHA256: sum, Env: all, Dir: "/", Log: filepath.Join(b.cfg.Out, version+".log"),
		Health: "/health", Start: patience, Stop: patience,
	}
}

func (b lab) start(t *Target, version string, env map[string]string) *Arm {
	b.Helper()
	arm, err := t.StartCanary(b.Context(), b.service(version, env))
	if err != nil {
		b.Fatal(err)
	}
	return arm
}

func (b lab) promote(t *Target) int {
	b.Helper()
	cut, err := t.Promote(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return cut
}

func (b lab) stable(version string) *Target {
	b.Helper()
	t := b.open()
	b.start(t, version, nil)
	b.promote(t)
	return t
}

// url is where a client connects; of every address the loopback one.
func (b lab) url() string {
	front := b.cfg.Front
	if front.Addr().IsUnspecified() {
		front = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), front.Port())
	}
	return "http://" + front.String() + "/"
}

// only makes sure that new connections go to one version.
func (b lab) only(version string) {
	b.Helper()
	if got := b.ask(40); got[version] != 40 {
		b.Errorf("40 new connections went to %v, want all at %s", got, version)
	}
}

// ask makes requests on connections of their own and counts who answered.
func (b lab) ask(n int) map[string]int {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	got := map[string]int{}
	for range n {
		got[answer(&client, b.url())]++
	}
	return got
}

// answer is the version that answered, or the error.
func answer(c *http.Client, url string) string {
	resp, err := c.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// load asks at a constant rate, with fresh connections and with kept ones, until
// the returned function is called. That one fails the test for every answer that
// is not the name of a version.
func (b lab) load() (stop func() map[string]int) {
	var mu sync.Mutex
	got, done, running := map[string]int{}, make(chan struct{}), sync.WaitGroup{}
	for _, fresh := range []bool{true, false} {
		client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: fresh}}
		running.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			defer client.CloseIdleConnections()
			for {
				select {
				case <-done:
					return
				case <-tick.C:
					running.Go(func() {
						a := answer(client, b.url())
						mu.Lock()
						defer mu.Unlock()
						got[a]++
					})
				}
			}
		})
	}
	return func() map[string]int {
		b.Helper()
		close(done)
		running.Wait()
		for a, n := range got {
			if !strings.HasPrefix(a, "v") {
				b.Errorf("%d requests failed: %s", n, a)
			}
		}
		return got
	}
}

// killAt runs a sluice of its own to a point of a rollout and kills it there.
func (b lab) killAt(point string, s Service) {
	b.Helper()
	raw, err := json.Marshal(plan{b.cfg, s, point})
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(s.Binary)
	cmd.Env = append(os.Environ(), "TEST_SLUICE="+string(raw))
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if line != "there\n" {
		b.Fatalf("the sluice to be killed says %q", line)
	}
}
