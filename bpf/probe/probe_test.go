package probe

import (
	"testing"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

func TestLoadAttachCheckClose(t *testing.T) {
	testenv.NeedRoot(t)
	p, err := Load(Object(), bpf.DigestOf(Object()), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if err := p.Attach(testenv.TempCgroup(t)); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", p.Loaded())
}
