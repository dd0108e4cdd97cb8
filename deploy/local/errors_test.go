package local

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/internal/cgroup"
)

func TestASecondCanaryIsRefused(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.stable("v1")
	if cut, err := target.RollBack(t.Context()); cut != 0 || err != nil {
		t.Errorf("rolling back without a canary: %d, %v", cut, err)
	}
	c := b.start(target, "v2", nil)
	if _, err := target.StartCanary(t.Context(), b.service("v3", nil)); err == nil || !strings.Contains(err.Error(), "there is one already") {
		t.Errorf("a second canary: %v", err)
	}
	if now := target.state.Canary; now != c {
		t.Errorf("the canary is %+v", now)
	}
	if _, err := target.RollBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.only("v1")
}

func TestABinaryThatCannotBeStarted(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.stable("v1")
	text := filepath.Join(b.cfg.Out, "text")
	if err := os.WriteFile(text, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	var digest *DigestError
	var start *StartError
	for name, tt := range map[string]struct {
		change func(*Service)
		is     func(error) bool
		says   string
	}{
		"it is not the one that was released": {func(s *Service) { s.SHA256 = empty }, func(err error) bool { return errors.As(err, &digest) && digest.Want == empty }, "released was " + empty},
		"it is not there":                     {func(s *Service) { s.Binary += ".missing" }, func(err error) bool { return errors.Is(err, os.ErrNotExist) }, "checking binary: "},
		"it is a folder":                      {func(s *Service) { s.Binary = b.cfg.Out }, func(err error) bool { return errors.Is(err, unix.EISDIR) }, "checking binary " + b.cfg.Out},
		"it is no program":                    {func(s *Service) { s.Binary, s.SHA256 = text, empty }, func(err error) bool { return errors.As(err, &start) && errors.Is(err, unix.ENOEXEC) }, "starting v2: "},
		"its folder is not there":             {func(s *Service) { s.Dir = "/missing" }, func(err error) bool { return errors.As(err, &start) && errors.Is(err, os.ErrNotExist) }, "starting v2: "},
		"its log cannot be made":              {func(s *Service) { s.Log = text + "/v2.log" }, func(err error) bool { return errors.Is(err, unix.ENOTDIR) }, "opening the log of v2: "},
		"its log is a folder":                 {func(s *Service) { s.Log = b.cfg.Out }, func(err error) bool { return errors.Is(err, unix.EISDIR) }, "opening the log of v2: "},
	} {
		s := b.service("v2", nil)
		tt.change(&s)
		if _, err := target.StartCanary(t.Context(), s); err == nil || !tt.is(err) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
		if groups, _ := filepath.Glob(filepath.Join(target.Group(), "*", "cgroup.procs")); len(groups) != 1 {
			t.Errorf("%s: left behind: %v", name, groups)
		}
	}
	b.only("v1")
}

func TestVersionsWithSlashesHaveGroupsOfTheirOwn(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.open()
	s := b.service("v1", map[string]string{"VERSION": "v1"})
	s.Version = "feature/x\ny"
	arm, err := target.StartCanary(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if want := cgroup.Group(filepath.Join(target.Group(), "feature_x_y.0")); arm.Cgroup != want {
		t.Errorf("its group is %s, want %s", arm.Cgroup, want)
	}
	b.promote(target)
	b.only("v1")
}

// What was recorded and cannot be read is not taken for nothing: what runs would
// be left running.
func TestAStateThatCannotBeReadIsRefused(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.stable("v1")
	file := filepath.Join(target.run, "state.json")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(target.Close(), os.WriteFile(file, good[:len(good)/2], 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), b.cfg); err == nil || !strings.HasPrefix(err.Error(), "reading the state of the local target: ") {
		t.Errorf("Open says %v", err)
	}
	if _, err := Look(b.cfg.Name); err == nil {
		t.Error("Look takes it for nothing")
	}
	b.only("v1")
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if s := b.open().Stable(); s == nil || s.Version != "v1" {
		t.Errorf("stable is %+v", s)
	}
}

// A promotion that cannot be recorded is none: the version before keeps its traffic.
func TestAPromotionThatCannotBeRecordedIsTakenBack(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.stable("v1")
	inTheWay := filepath.Join(target.run, "state.json.tmp")
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := target.StartCanary(t.Context(), b.service("v2", nil)); err == nil || !strings.HasPrefix(err.Error(), "writing the state of the local target: ") {
		t.Errorf("a canary that cannot be recorded: %v", err)
	}
	if _, taken, err := target.split.Occupied(other(target.Stable().Slot)); target.state.Canary != nil || taken || err != nil {
		t.Errorf("it is there: %+v, %v, %v", target.state.Canary, taken, err)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	c := b.start(target, "v3", nil)
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Promote(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "writing the state of the local target: ") {
		t.Errorf("promoting: %v", err)
	}
	if s := target.Stable(); s == nil || s.Version != "v1" || target.state.Canary != c {
		t.Errorf("stable is %+v, the canary %+v", s, target.state.Canary)
	}
	b.only("v1")
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	b.promote(target)
	b.only("v3")
}

func TestFoldersThatCannotBeUsed(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(runDir, b.cfg.Name)
	for name, tt := range map[string]struct {
		make func() error
		says string
	}{
		"a file in the place of the service": {func() error { return os.WriteFile(folder, nil, 0o600) }, "making the folder of the local target: "},
		"a folder in the place of the lock":  {func() error { return os.MkdirAll(filepath.Join(folder, "lock"), 0o700) }, "locking " + b.cfg.Name},
	} {
		if err := tt.make(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), b.cfg); err == nil || !strings.HasPrefix(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFrontIsOfOneServiceOnly(t *testing.T) {
	one := newLab(t, "127.0.0.1")
	one.stable("v1")
	two := one
	two.cfg.Name += "-two"
	two.cfg.Out = t.TempDir()
	_, err := Open(t.Context(), two.cfg)
	var port *PortError
	if !errors.As(err, &port) || !strings.Contains(port.Holder, one.cfg.Name) || !strings.Contains(port.Hint(), "deploy.local.listen") {
		t.Errorf("the front of another service: %v", err)
	}
	if left := two.traces(); len(left) > 0 {
		t.Errorf("it leaves %v", left)
	}
	two.cfg.Front = netip.MustParseAddrPort("192.0.2.1:80")
	_, err = Open(t.Context(), two.cfg)
	if !errors.As(err, &port) || port.Holder != "" || !errors.Is(err, unix.EADDRNOTAVAIL) || !strings.HasPrefix(err.Error(), "front address 192.0.2.1:80 cannot be used: ") {
		t.Errorf("an address of another machine: %v", err)
	}
	one.only("v1")
}

func TestAServiceOfAnotherLedgerSaysWhose(t *testing.T) {
	err := &OwnedError{Name: "hello", Version: "v1.2.3", Out: "/srv/a", Want: "/srv/b"}
	if err.Error() != "hello v1.2.3 is running here for the ledger in /srv/a, not /srv/b" || !strings.Contains(err.Hint(), "sluice down --out /srv/a") {
		t.Errorf("%v: %s", err, err.Hint())
	}
}

// The front moves: what the service had before is given up, and the connections go
// where they are told to.
func TestAFrontThatMovesLeavesNoSplitterBehind(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	if err := b.stable("v1").Close(); err != nil {
		t.Fatal(err)
	}
	before := b.url()
	moved := b
	moved.cfg.Front = freeFront(t, "127.0.0.1")
	target := moved.open()
	moved.only("v1")
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	if got := answer(&client, before); !strings.Contains(got, "refused") {
		t.Errorf("at the front before, %q answers", got)
	}
	if pins, err := os.ReadDir(target.pins); err != nil || len(pins) != 1 || pins[0].Name() != pinName(moved.cfg.Front) {
		t.Errorf("pinned is %v, %v", pins, err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	b.open() // back, for the end of the test
	b.only("v1")
}

// The process lives and has closed its socket.
func TestAStableVersionThatDoesNotListenAnyMore(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.stable("v1")
	arm := target.Stable()
	own := arm.Own
	arm.Own = netip.AddrPortFrom(own.Addr(), own.Port()-1)
	if err := errors.Join(target.state.write(target.run), target.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), b.cfg); err == nil || !strings.Contains(err.Error(), "does not listen on "+arm.Own.String()+" any more") {
		t.Errorf("Open says %v", err)
	}
	b.only("v1")
	arm.Own = own
	if err := target.state.write(target.run); err != nil {
		t.Fatal(err)
	}
}

func TestAskingAVersion(t *testing.T) {
	plain := httptest.NewServer(http.RedirectHandler("http://192.0.2.1/", http.StatusFound))
	defer plain.Close()
	h2 := httptest.NewUnstartedServer(http.NotFoundHandler())
	h2.Config.Protocols = new(http.Protocols)
	h2.Config.Protocols.SetUnencryptedHTTP2(true)
	h2.Start()
	defer h2.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	go func() {
		for {
			c, err := deaf.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	for name, tt := range map[string]struct {
		at      net.Addr
		status  int // 0: no answer
		tls, ok bool
	}{
		"HTTP/1.1, and where it redirects to is not asked": {plain.Listener.Addr(), http.StatusFound, false, true},
		"HTTP/2 in the clear":                              {h2.Listener.Addr(), http.StatusNotFound, false, true},
		"TLS answers with a complaint":                     {secure.Listener.Addr(), http.StatusBadRequest, true, true},
		"it closes every connection":                       {deaf.Addr(), 0, false, false},
	} {
		own := tt.at.(*net.TCPAddr).AddrPort()
		arm := &Arm{Own: own}
		status, err := get(t.Context(), own, "/")
		if status != tt.status || (err == nil) != tt.ok {
			t.Errorf("%s: %d, %v", name, status, err)
		}
		if err := arm.Ask(t.Context()); (err == nil) != tt.ok {
			t.Errorf("%s: Ask says %v", name, err)
		}
		if got := arm.SpeaksTLS(t.Context()); got != tt.tls {
			t.Errorf("%s: it speaks TLS: %v", name, got)
		}
	}
	if _, err := get(t.Context(), plain.Listener.Addr().(*net.TCPAddr).AddrPort(), "%zz"); err == nil {
		t.Error("a path that is none was asked for")
	}
}

// The number of a process that has ended may be that of another one now.
func TestAProcessThatHasEndedIsNotWatched(t *testing.T) {
	arm := &Arm{PID: 1 << 30, Began: "1"}
	if err := arm.watch(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-arm.Gone():
	default:
		t.Error("a process that is not there lives")
	}
	if alive, err := arm.alive(); alive || err != nil {
		t.Errorf("it is alive: %v, %v", alive, err)
	}
	arm.terminate() // tells nobody
	self := &Arm{PID: os.Getpid(), Began: "1"}
	if alive, err := self.alive(); alive || err != nil {
		t.Errorf("another process of that number is it: %v, %v", alive, err)
	}
	self.terminate() // it would end the test
}

// A drain that is interrupted says how many connections are left.
func TestAnInterruptedDrainSaysWhatIsLeft(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	b.cfg.Drain = patience
	target := b.stable("v1")
	conn, err := net.Dial("tcp", b.cfg.Front.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	arm := target.Stable()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if n, err := connections(arm.Cgroup, b.cfg.Front.Port()); err != nil || n == 1 || time.Now().After(deadline) {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := arm.drain(ctx, b.cfg.Front.Port(), patience); n != 1 || err != nil {
		t.Errorf("%d connections are left, %v; want one", n, err)
	}
	if n, err := arm.drain(t.Context(), b.cfg.Front.Port(), 50*time.Millisecond); n != 1 || err != nil {
		t.Errorf("when the time is up %d connections are left, %v; want one", n, err)
	}
	if err := syscall.Kill(arm.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-arm.Gone()
	if n, err := arm.drain(t.Context(), b.cfg.Front.Port(), patience); n != 0 || err != nil {
		t.Errorf("of a dead version %d connections are left, %v", n, err)
	}
}

// A canary that is taken back while the stable version cannot come back is kept:
// somebody has to answer.
func TestACanaryIsKeptWhileTheStableVersionCannotComeBack(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.stable("v1")
	b.start(target, "v2", nil)
	old := target.Stable()
	if err := syscall.Kill(old.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-old.Gone()
	good := old.SHA256
	old.SHA256 = strings.Repeat("0", 64)
	var digest *DigestError
	if _, err := target.RollBack(t.Context()); !errors.As(err, &digest) || !strings.HasPrefix(err.Error(), "starting the stable version again: ") {
		t.Errorf("with another binary: %v", err)
	}
	b.only("v2")
	old.SHA256, old.Start = good, time.Second
	old.Env["SILENT"] = "1"
	var start *StartError
	if _, err := target.RollBack(t.Context()); !errors.As(err, &start) || !strings.HasPrefix(err.Error(), "starting the stable version again: ") {
		t.Errorf("with a version that does not listen: %v", err)
	}
	b.only("v2")
	delete(old.Env, "SILENT")
	old.Start = patience
	if _, err := target.RollBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.only("v1")
}

// A server that forks, and has a UDP socket of the same number besides, listens
// on one port.
func TestASocketOfSeveralProcessesIsOne(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.open()
	arm := b.start(target, "v1", map[string]string{"SHARE": "1"})
	if pids, err := arm.Cgroup.Processes(); err != nil || len(pids) != 2 {
		t.Errorf("processes %v, %v; want 2", pids, err)
	}
	list, err := sockets(arm.Cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(list)
	seen := map[uint64]bool{}
	listening := 0
	for _, s := range list {
		if seen[s.cookie] {
			t.Errorf("the socket at %v is there twice", s.local)
		}
		seen[s.cookie] = true
		if s.listening {
			listening++
		}
	}
	if listening != 1 {
		t.Errorf("%d listening sockets, want one", listening)
	}
	b.promote(target)
	b.only("v1")
}
