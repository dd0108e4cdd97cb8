package probe

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/bpf"
)

func TestAGroupThatIsOccupiedIsRefused(t *testing.T) {
	s := start(t)
	beside(t, s.parent, nil)
	folder := pinFolder(t)
	p, err := Load(Object(), bpf.DigestOf(Object()), Options{Pin: folder})
	if err != nil {
		t.Fatal(err)
	}
	if e := found(t, p.Attach(s.parent)); e.Program != "ingress" || e.Want != "[]" {
		t.Errorf("Attach says %v", e)
	}
	dir, err := os.Open(s.parent)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for program, at := range attachments {
		got, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: at})
		if want := strings.Count(program, "ingress"); err != nil || len(got.Programs) != want {
			t.Errorf("%s: %d programs are attached, want %d (%v)", program, len(got.Programs), want, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pins were left: %v", err)
	}
}

func TestCloseDetachesWhatSomebodyHasPinnedElsewhere(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{})
	dir := filepath.Dir(pinFolder(t))
	for program := range attachments {
		if err := linkOf(t, p, program).Pin(filepath.Join(dir, program)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if again := s.watch(t, Options{}).Check(); again != nil {
		t.Errorf("something is still attached: %v", again)
	}
}

func TestAGroupThatWasMadeAnewIsMeasuredAfterASwap(t *testing.T) {
	s := start(t)
	group := filepath.Join(s.parent, "short-lived")
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := Load(Object(), bpf.DigestOf(Object()), Options{Pin: pinFolder(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	if err := p.Attach(group); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(group); err != nil {
		t.Fatal(err)
	}
	_ = p.Swap(Object(), p.Digest()) // it may succeed as long as the kernel has not noticed
	_ = found(t, p.Check())
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	// "removed", or "detached" as soon as the kernel has let go of the links
	if e := found(t, p.Check()); e.Program == "" || e.Got != "removed" && e.Got != "detached" {
		t.Errorf("Check says %v", e)
	}
	if err := p.Swap(Object(), p.Digest()); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}
