package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// supported lists what UPX 4.2 packs of what Go builds. It refuses riscv64,
// Windows on arm64 and macOS.
var supported = map[string]bool{
	"linux/386":     true,
	"linux/amd64":   true,
	"linux/arm":     true,
	"linux/arm64":   true,
	"linux/ppc64le": true,
	"windows/amd64": true,
}

// upxTimeout is for the slowest level on a large binary.
const upxTimeout = 20 * time.Minute

var level = regexp.MustCompile(`^([1-9]|best|lzma)$`)

// complete fills in the defaults.
func (o Options) complete() (Options, error) {
	if o.Level == "" {
		o.Level = "5"
	}
	if !level.MatchString(o.Level) {
		return o, &OptionError{"Level", o.Level, `"1" to "9", "best" or "lzma"`}
	}
	if o.MinSaving == 0 {
		o.MinSaving = 0.20
	}
	if o.MinSaving < 0 || o.MinSaving >= 1 {
		return o, &OptionError{"MinSaving", fmt.Sprint(o.MinSaving), "a part between 0 and 1"}
	}
	if o.MaxStart == 0 {
		o.MaxStart = 500 * time.Millisecond
	}
	return o, nil
}

// compress writes the packed file.
func (j *job) compress(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(j.packed), 0o755); err != nil {
		return fmt.Errorf("packing: %w", err)
	}
	flag := "-" + j.Level
	if len(j.Level) > 1 {
		flag = "-" + flag
	}
	if err := j.upx(ctx, flag, "-o", j.packed, j.binary.Path); err != nil {
		return err
	}
	if _, err := os.Stat(j.packed); err != nil {
		return refuse("upx wrote nothing")
	}
	return nil
}

// verify lets UPX unpack the file in memory and compare checksums, and looks
// at the headers with our own eyes.
func (j *job) verify(ctx context.Context) error {
	if err := j.upx(ctx, "-t", j.packed); err != nil {
		return err
	}
	j.note("upx -t: intact")
	text, err := checkPacked(j.packed, j.binary.Platform)
	if err != nil {
		return err
	}
	j.note("headers: %s", text)
	return nil
}

// upx runs the tool; what it refuses is a refusal of ours.
func (j *job) upx(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, upxTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, j.UPX, append([]string{"-q", "--no-color"}, args...)...)
	cmd.Env = []string{"LC_ALL=C"} // the variable UPX may hold options
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("running upx: %w", ctx.Err())
	case errors.As(err, &exit):
		return refuse("upx %s: %s", args[0], complaint(out))
	}
	return &MissingToolError{err}
}

// complaint returns the line in which UPX says what is wrong, without the
// path: "upx: /path/file: CantPackException: reason".
func complaint(out []byte) string {
	for line := range strings.Lines(string(bytes.ToValidUTF8(out, nil))) {
		if rest, ok := strings.CutPrefix(line, "upx: "); ok {
			if _, reason, ok := strings.Cut(rest, ": "); ok {
				rest = reason
			}
			return strings.TrimSpace(rest)
		}
	}
	return "no reason given"
}
