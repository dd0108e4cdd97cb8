package pipeline

import (
	"testing"

	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/pack"
)

// What has not changed is not packed and tried again.
func TestTheKeyOfPackingIsTheSameEveryTime(t *testing.T) {
	s := &Pack{Job: Job{Config: &config.Config{Service: config.Service{Env: map[string]string{"A": "1", "B": "2", "C": "3"}}}}}
	first := ""
	for range 50 {
		key, err := keyOf(pack.Options{Service: s.service()})
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = key
		}
		if key != first {
			t.Fatal("the same service has two keys")
		}
	}
}

func TestWhatWasNotRunIsSaid(t *testing.T) {
	const mib = 1 << 20
	proven := pack.Result{Packed: true, StrippedBytes: 10 * mib, PackedBytes: 4 * mib}
	unproven, refused := proven, pack.Result{Platform: build.Platform{OS: "linux", Arch: "riscv64"}, Reason: "upx cannot pack linux/riscv64"}
	unproven.Reason = "not run: a windows binary cannot be started on linux"
	for name, tt := range map[string]struct {
		results []pack.Result
		want    string
	}{
		"all of it":           {[]pack.Result{proven, proven}, "2 of 2 packed (20.0 MiB → 8.0 MiB)"},
		"one could not be":    {[]pack.Result{proven, unproven}, "2 of 2 packed (20.0 MiB → 8.0 MiB), 1 not run here"},
		"one was not packed":  {[]pack.Result{refused, proven}, "1 of 2 packed (10.0 MiB → 4.0 MiB), linux/riscv64 stays stripped: upx cannot pack linux/riscv64"},
		"nothing to speak of": {nil, "0 of 0 packed"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (&Pack{Results: tt.results}).summary(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestWhatIsRequiredHasToBeRun(t *testing.T) {
	foreign := build.Platform{OS: "linux", Arch: "riscv64"}
	for _, tt := range []struct {
		required bool
		platform build.Platform
		want     bool
	}{{true, build.Native(), true}, {true, foreign, false}, {false, build.Native(), false}} {
		if got := optionsFor(pack.Options{Required: tt.required}, tt.platform).RequireRun; got != tt.want {
			t.Errorf("required %v, %v: has to be run %v, want %v", tt.required, tt.platform, got, tt.want)
		}
	}
}
