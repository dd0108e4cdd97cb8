package build

import (
	"bytes"
	"fmt"
	"strings"
)

// CompileError is source that the go tool cannot build.
type CompileError struct {
	Platform Platform
	// Output holds the telling lines, at most 20 of them.
	Output string
	Err    error
}

func (e *CompileError) Error() string {
	lines := strings.Split(e.Output, "\n")
	msg := fmt.Sprintf("compiling for %s: %s", e.Platform, lines[0])
	if more := len(lines) - 1; more > 0 {
		msg += fmt.Sprintf(" (and %d more lines)", more)
	}
	return msg
}

func (e *CompileError) Unwrap() error { return e.Err }

// Hint says what usually helps.
func (e *CompileError) Hint() string {
	switch {
	case strings.Contains(e.Output, "go mod tidy"), strings.Contains(e.Output, "go: updates to go.mod"),
		strings.Contains(e.Output, "missing go.sum entry"), strings.Contains(e.Output, "no required module"):
		return "run go mod tidy and commit go.mod and go.sum"
	case strings.Contains(e.Output, "is not in std"):
		return "a directory is written with a leading ./, for example ./app"
	case strings.Contains(e.Output, "build constraints exclude all Go files"):
		return "the package needs cgo or another platform; name the platforms it supports in sluice.yaml"
	}
	return ""
}

// BudgetError is a binary larger than Options.BudgetBytes.
type BudgetError struct {
	Platform               Platform
	Name                   string
	SizeBytes, BudgetBytes int64
}

func (e *BudgetError) Error() string {
	return fmt.Sprintf("%s for %s has %d bytes, %d over the budget of %d",
		e.Name, e.Platform, e.SizeBytes, e.SizeBytes-e.BudgetBytes, e.BudgetBytes)
}

// NotMainError is a package that is no main package.
type NotMainError struct{ Package string }

func (e *NotMainError) Error() string {
	return fmt.Sprintf("%s is not a main package, so there is nothing to run", e.Package)
}

// NoModuleError is a Main that is in no Go module.
type NoModuleError struct{ Dir string }

func (e *NoModuleError) Error() string {
	return fmt.Sprintf("no go.mod in %s or above it", e.Dir)
}

// Hint says how a module comes into being.
func (e *NoModuleError) Hint() string { return "run go mod init in the root of the source" }

// output keeps the beginning of what is written and drops the rest: the first
// error of a compiler is the one to read.
type output struct{ buf bytes.Buffer }

const outputBytes = 64 << 10

func (o *output) Write(p []byte) (int, error) {
	room := outputBytes - o.buf.Len()
	if len(p) > room {
		o.buf.Write(p[:room])
		return len(p), nil
	}
	return o.buf.Write(p)
}

func (o *output) lastLine() string {
	lines := strings.Split(strings.TrimSpace(o.buf.String()), "\n")
	return lines[len(lines)-1]
}

const tellingLines = 20

// telling returns the lines of a failed build that name a cause: headings
// such as "# package" and progress about downloads are left out.
func (o *output) telling() string {
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(o.buf.String()), "\n") {
		if line == "" || strings.HasPrefix(line, "# ") || strings.HasPrefix(line, "go: downloading ") {
			continue
		}
		if len(lines) == tellingLines {
			lines = append(lines, "…")
			break
		}
		if len(line) > 500 {
			line = line[:500] + "…"
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return "the go tool gave no reason"
	}
	return strings.Join(lines, "\n")
}
