package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/sandbox"
)

// nativeRuns and foreignRuns are how often both binaries are started. The
// fastest start counts, because everything else on the machine only adds to
// it; under an emulator no start is judged.
const (
	nativeRuns  = 3
	foreignRuns = 2
)

// emulators are the programs of Debian's qemu-user-static.
var emulators = map[string]string{
	"386":     "qemu-i386-static",
	"amd64":   "qemu-x86_64-static",
	"arm":     "qemu-arm-static",
	"arm64":   "qemu-aarch64-static",
	"ppc64le": "qemu-ppc64le-static",
}

// runner returns the command to put in front of a binary for this machine, or
// why it cannot be run here.
func runner(p build.Platform) (prefix []string, whyNot string) {
	native := build.Native()
	if p.OS != native.OS {
		return nil, fmt.Sprintf("a %s binary cannot be started on %s", p.OS, native.OS)
	}
	if p.Arch == native.Arch {
		return nil, ""
	}
	name := emulators[p.Arch]
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Sprintf("%s is not installed (Debian package qemu-user-static)", name)
	}
	return []string{path}, ""
}

// Startable reports whether this machine has what it takes to start a binary for a
// platform: its own processor, or an emulator. Whether this process may is another
// question.
func Startable(p build.Platform) bool {
	_, whyNot := runner(p)
	return whyNot == ""
}

// compare starts both binaries in turn, so that whatever else goes on meets
// both, and demands the same answers.
func (j *job) compare(ctx context.Context) error {
	prefix, whyNot := runner(j.binary.Platform)
	if whyNot != "" {
		return j.notRun(whyNot)
	}
	runs := nativeRuns
	if len(prefix) > 0 {
		runs = foreignRuns
	}
	var stripped, packed series
	for range runs {
		if err := j.try(ctx, &stripped, j.binary.Path, prefix); err != nil {
			var denied *sandbox.NotAllowedError
			if errors.As(err, &denied) {
				return j.notRun(denied.Error() + "; " + denied.Hint())
			}
			return j.failed(ctx, "the unpacked binary does not work here, so packing cannot be checked", err)
		}
		if err := j.try(ctx, &packed, j.packed, prefix); err != nil {
			return j.failed(ctx, "the packed binary does not work", err)
		}
	}
	if err := j.sameAnswers(ctx, &stripped, &packed, prefix); err != nil {
		return err
	}
	r := j.result
	r.StrippedStart, r.StrippedRSS = stripped.start, stripped.rss
	r.PackedStart, r.PackedRSS = packed.start, packed.rss
	j.note("start: %v → %v, memory: %d → %d KiB%s", stripped.start.Round(time.Microsecond),
		packed.start.Round(time.Microsecond), stripped.rss>>10, packed.rss>>10, under(prefix))
	if len(prefix) == 0 && packed.start > j.MaxStart {
		return refuse("the packed binary starts in %v, more than %v (unpacked: %v)", packed.start.Round(time.Millisecond),
			j.MaxStart, stripped.start.Round(time.Millisecond))
	}
	return nil
}

func under(prefix []string) string {
	if len(prefix) == 0 {
		return ""
	}
	return ", under " + prefix[0]
}

// notRun keeps a packed binary that only the static checks have seen, unless
// the options forbid that.
func (j *job) notRun(why string) error {
	if j.RequireRun {
		return refuse("not run: %s", why)
	}
	j.result.Reason = "not run: " + why
	j.note("%s", j.result.Reason)
	return nil
}

func (j *job) failed(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return refuse("%s: %v", what, err)
}

// series is what one binary answered in all its runs.
type series struct {
	status []int
	bodies [][]byte
	start  time.Duration // the fastest
	rss    int64         // the largest
}

func (j *job) try(ctx context.Context, s *series, path string, prefix []string) error {
	service := j.Service
	service.Path, service.Runner = path, prefix
	answer, err := sandbox.Try(ctx, service)
	if err != nil {
		return err
	}
	if s.start == 0 || answer.Startup < s.start {
		s.start = answer.Startup
	}
	s.rss = max(s.rss, answer.PeakRSSBytes)
	s.status = append(s.status, answer.Status)
	s.bodies = append(s.bodies, answer.Body)
	return nil
}

// sameAnswers compares status and body. A body that the unpacked binary itself
// changes from run to run (a clock, a process id) cannot be compared; one more
// run after all others makes sure that a slow clock is seen, too.
func (j *job) sameAnswers(ctx context.Context, stripped, packed *series, prefix []string) error {
	for i, status := range packed.status {
		if status != stripped.status[i] {
			return refuse("the packed binary answers %d, the unpacked one %d", status, stripped.status[i])
		}
	}
	if j.Service.Health == "" {
		j.note("run: both accept connections")
		return nil
	}
	if same(stripped.bodies, packed.bodies) {
		j.note("run: both answer %d and the same %d bytes", packed.status[0], len(packed.bodies[0]))
		return nil
	}
	time.Sleep(time.Second)
	if err := j.try(ctx, stripped, j.binary.Path, prefix); err != nil {
		return j.failed(ctx, "the unpacked binary does not work here, so packing cannot be checked", err)
	}
	if same(stripped.bodies[:1], stripped.bodies) {
		return refuse("the packed binary gives another body than the unpacked one")
	}
	j.note("run: both answer %d; the body changes from run to run and was not compared", packed.status[0])
	return nil
}

// same tells whether every body of b is one of a.
func same(a, b [][]byte) bool {
	for _, body := range b {
		found := false
		for _, other := range a {
			found = found || bytes.Equal(body, other)
		}
		if !found {
			return false
		}
	}
	return true
}
