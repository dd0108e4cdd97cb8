package doctor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// minFree is the disk space below which a first run is likely to fail: eight platforms, packed and not, SBOMs, image.
const minFree = 1 << 30

// tool returns a trial that really starts a tool and makes sense of what it prints.
func tool(name string, read func(output string) (string, error)) func(context.Context, *bench) (string, error) {
	return func(ctx context.Context, _ *bench) (string, error) {
		output, err := version(ctx, name)
		if err != nil {
			return "", err
		}
		return read(output)
	}
}

// version starts a tool, away from any go.mod that could make the go command fetch another one.
func version(ctx context.Context, name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", missingError{name + " is not on PATH"}
	}
	flag := "--version"
	if name == "go" {
		flag = "version"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, flag)
	cmd.Dir, cmd.Env, cmd.WaitDelay = os.TempDir(), append(os.Environ(), "GOTOOLCHAIN=local", "GOFLAGS=", "GOWORK=off"), time.Second
	output, err := cmd.CombinedOutput()
	if err != nil {
		line, _ := firstLine(string(output))
		return "", fmt.Errorf("%s %s: %w: %s", path, flag, err, line)
	}
	return string(output), nil
}

func firstLine(output string) (string, error) {
	line, _, _ := strings.Cut(strings.TrimSpace(output), "\n")
	return strings.TrimSpace(line), nil
}

func goVersion(output string) (string, error) {
	line, _ := firstLine(output)
	if line, ok := strings.CutPrefix(line, "go version "); ok {
		return line, nil
	}
	return "", fmt.Errorf("\"go version\" printed %q", line)
}

var upxForm = regexp.MustCompile(`^upx (\d+)\.\d+`)

func upxVersion(output string) (string, error) {
	line, _ := firstLine(output)
	m := upxForm.FindStringSubmatch(line)
	if m == nil {
		return "", fmt.Errorf("\"upx --version\" printed %q", line)
	}
	if major, _ := strconv.Atoi(m[1]); major < 4 {
		return "", fmt.Errorf("%s is too old for current Go binaries: 4.2 is known to work", line)
	}
	return line, nil
}

// tryQEMU looks for the emulators of the foreign Linux architectures among the default platforms.
func tryQEMU(ctx context.Context, _ *bench) (string, error) {
	var found, lacking []string
	for _, arch := range []string{"aarch64", "arm", "riscv64"} {
		if _, err := version(ctx, "qemu-"+arch+"-static"); err == nil {
			found = append(found, arch)
		} else {
			lacking = append(lacking, arch)
		}
	}
	if len(lacking) > 0 {
		return "", missingError{"no qemu-<arch>-static that starts for " + strings.Join(lacking, ", ")}
	}
	return "static emulators for " + strings.Join(found, ", "), nil
}

// tryDisk writes into the output folder, or into where it will be made, and looks how much more fits there.
func tryDisk(_ context.Context, b *bench) (string, error) {
	dir, err := existing(b.outDir)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, ".sluice-doctor-")
	if err != nil {
		return "", fmt.Errorf("writing a file: %w", err)
	}
	defer os.Remove(f.Name())
	if err := f.Close(); err != nil {
		return "", fmt.Errorf("writing a file: %w", err)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "", fmt.Errorf("looking at the disk of %s: %w", dir, err)
	}
	free := s.Bavail * uint64(s.Bsize)
	text := fmt.Sprintf("%.1f GiB free in %s", float64(free)/(1<<30), dir)
	if free < minFree {
		return "", fmt.Errorf("only %s, at least %d GiB are needed", text, minFree>>30)
	}
	return text, nil
}
