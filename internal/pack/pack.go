// Package pack shrinks a built binary with UPX and keeps the result only if it
// is proven to be worth it.
//
// The proof: the original is static and sane, `upx -t` accepts the packed
// file, its headers are those of the same processor, and it is started beside
// the original and answers the same. It is kept if it is at least 20 % smaller
// and starts within 500 ms; else the original stays, with the reason. The
// original is never changed, and whatever happens it can be used.
//
// What cannot be started here (another system, another processor without an
// emulator, a user who may make no namespaces) is kept by what is left of the
// proof, and Reason says so, unless RequireRun: so a release has the same files
// wherever it is made.
//
// Defaults measured on a 15.9 MB gRPC service (amd64, UPX 4.2.2): level 5
// gives 6.2 MB in 0.8 s of CPU and starts in 60 ms, level 1 7.0 MB in 0.4 s,
// level 7 6.0 MB in 2 s, lzma 4.5 MB in 7 s with a start of 340 ms. Unpacked
// it starts in 5 ms and needs 9 MB less memory.
package pack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/sandbox"
)

// Options may be zero except for Service.
type Options struct {
	// UPX is the path of the tool; empty: looked up.
	UPX string
	// Required makes a missing tool an error instead of a reason.
	Required bool
	// RequireRun refuses a packed binary that cannot be run on this machine.
	RequireRun bool
	// Level is "1" to "9", "best" or "lzma"; empty: "5".
	Level string
	// Service says how to start the binary; Path and Runner are filled in.
	Service sandbox.Service
	// MinSaving is the least part of the size to be saved; 0: 0.20.
	MinSaving float64
	// MaxStart is the longest start of the packed binary; 0: 500 ms. It is
	// not judged for a foreign processor, where the emulator dominates.
	MaxStart time.Duration
}

// Result says which file is the better one, and why.
type Result struct {
	Platform build.Platform `json:"platform"`
	// Path and Digest ("sha256:…") of the packed file if Packed, else of the
	// original.
	Path   string `json:"path"`
	Digest string `json:"digest"`
	Packed bool   `json:"packed"`
	// Reason says why the file was not packed or not run; empty if all is done.
	Reason        string `json:"reason,omitempty"`
	StrippedBytes int64  `json:"stripped_bytes"`
	// PackedBytes is 0 if nothing was packed; it is set for a packed file
	// that was not kept. Start and RSS are 0 if the binaries were not run.
	PackedBytes   int64         `json:"packed_bytes,omitempty"`
	StrippedStart time.Duration `json:"stripped_start_ns,omitempty"`
	PackedStart   time.Duration `json:"packed_start_ns,omitempty"`
	StrippedRSS   int64         `json:"stripped_rss_bytes,omitempty"`
	PackedRSS     int64         `json:"packed_rss_bytes,omitempty"`
	// Checks lists what was found in order, for people.
	Checks []string `json:"checks,omitempty"`
}

// MissingToolError says that UPX is needed and not installed.
type MissingToolError struct{ Err error }

func (e *MissingToolError) Error() string { return fmt.Sprintf("looking for upx: %v", e.Err) }
func (e *MissingToolError) Unwrap() error { return e.Err }

// Hint says how to install it.
func (e *MissingToolError) Hint() string { return installHint }

const installHint = "install the Debian package upx-ucl 4.2 (on bookworm: apt-get install -t bookworm-backports upx-ucl)"

// ChangedError is a binary that is not the one that was built.
type ChangedError struct{ Path, Got, Want string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s was changed after it was built: digest %s, want %s", e.Path, e.Got, e.Want)
}

// OptionError is an option that has no meaning.
type OptionError struct{ Option, Value, Want string }

func (e *OptionError) Error() string {
	return fmt.Sprintf("pack option %s is %q, want %s", e.Option, e.Value, e.Want)
}

// refusal is a reason not to keep a packed binary: not an error of Pack.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// Pack packs the binary into <name>.upx beside it, checks the result and
// decides. A binary that cannot or should not be packed is no error: Packed is
// false and Reason says why. Errors are a cancelled context, a disk that does
// not work, *ChangedError, *OptionError and, if Required, *MissingToolError.
func Pack(ctx context.Context, b build.Binary, o Options) (Result, error) {
	r := Result{Platform: b.Platform, Path: b.Path, Digest: b.Digest, StrippedBytes: b.SizeBytes}
	o, err := o.complete()
	if err != nil {
		return r, err
	}
	if digest, _, err := build.Digest(b.Path); err != nil {
		return r, fmt.Errorf("packing: %w", err)
	} else if digest != b.Digest {
		return r, &ChangedError{b.Path, digest, b.Digest}
	}
	final := packedPath(b)
	stage := filepath.Join(filepath.Dir(b.Path), ".pack-"+filepath.Base(b.Path))
	for _, stale := range []string{stage, final} { // of an earlier run
		if err := os.RemoveAll(stale); err != nil {
			return r, fmt.Errorf("packing: %w", err)
		}
	}
	defer os.RemoveAll(stage)
	j := &job{Options: o, binary: b, result: &r, packed: filepath.Join(stage, filepath.Base(final))}
	err = j.run(ctx)
	var no *refusal
	switch {
	case ctx.Err() != nil:
		return r, fmt.Errorf("packing %s: %w", b.Path, ctx.Err())
	case errors.As(err, &no):
		r.Reason = no.reason
		return r, nil
	case err != nil:
		return r, err
	}
	if err := os.Rename(j.packed, final); err != nil {
		return r, fmt.Errorf("packing: %w", err)
	}
	r.Packed, r.Path = true, final
	return r, nil
}

// job is one call of Pack.
type job struct {
	Options
	binary build.Binary
	packed string
	result *Result
}

func (j *job) note(format string, args ...any) {
	j.result.Checks = append(j.result.Checks, fmt.Sprintf(format, args...))
}

func (j *job) run(ctx context.Context) error {
	if !supported[j.binary.Platform.OS+"/"+j.binary.Platform.Arch] {
		return refuse("upx cannot pack %s", j.binary.Platform)
	}
	if j.UPX == "" {
		path, err := exec.LookPath("upx")
		if err != nil && j.Required {
			return &MissingToolError{err}
		}
		if err != nil {
			return refuse("upx is not installed: %s", installHint)
		}
		j.UPX = path
	}
	if err := checkOriginal(j.binary); err != nil {
		return err
	}
	j.note("original: static, built without cgo, sections sane")
	if err := j.compress(ctx); err != nil {
		return err
	}
	var err error
	if j.result.Digest, j.result.PackedBytes, err = build.Digest(j.packed); err != nil {
		return fmt.Errorf("packing: %w", err)
	}
	if err := j.judge(ctx); err != nil {
		j.result.Digest = j.binary.Digest
		return err
	}
	return nil
}

// judge decides about the packed file, the cheap questions first.
func (j *job) judge(ctx context.Context) error {
	saved := 1 - float64(j.result.PackedBytes)/float64(j.result.StrippedBytes)
	if saved < j.MinSaving {
		return refuse("packing saves only %.0f %%, less than %.0f %%", 100*saved, 100*j.MinSaving)
	}
	j.note("size: %d → %d bytes, %.0f %% saved", j.result.StrippedBytes, j.result.PackedBytes, 100*saved)
	if err := j.verify(ctx); err != nil {
		return err
	}
	return j.compare(ctx)
}

// packedPath returns <name>.upx or <name>.upx.exe beside the binary.
func packedPath(b build.Binary) string {
	exe := b.Platform.Exe()
	return strings.TrimSuffix(b.Path, exe) + ".upx" + exe
}
