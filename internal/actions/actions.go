// Package actions tells GitHub Actions what a command found: annotations on the
// lines of a file, outputs for the steps that follow, a summary for the person
// who opens the run, a comment on the pull request.
//
// The formats are GitHub's workflow commands and environment files. Outside of
// a workflow there is no Job, and every method of a nil Job does nothing, so a
// command needs no case of its own for a laptop.
package actions

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Job is the job of a workflow that this process is a step of.
type Job struct {
	Commands  io.Writer // where the runner reads workflow commands
	Workspace string    // folder of the checkout: annotations name files relative to it
	output    string    // file of the step's outputs
	summary   string    // file of the step's summary
	request   request   // the pull request that it is about, if it is
}

// New returns the job that the environment describes, or nil outside of one.
func New(getenv func(string) string, commands io.Writer) *Job {
	if getenv("GITHUB_ACTIONS") != "true" {
		return nil
	}
	return &Job{
		Commands: commands, Workspace: getenv("GITHUB_WORKSPACE"),
		output: getenv("GITHUB_OUTPUT"), summary: getenv("GITHUB_STEP_SUMMARY"), request: requestFrom(getenv),
	}
}

// Level of an annotation.
type Level string

// The levels of an annotation.
const (
	Error   Level = "error"
	Warning Level = "warning"
	Notice  Level = "notice"
)

// Annotation is a remark about a line of a file, or about the job as a whole.
type Annotation struct {
	Level Level
	File  string // may be empty
	Line  int    // 1 is the first line; 0: not about a line
	Title string
	Text  string
}

// Annotate shows an annotation.
func (j *Job) Annotate(a Annotation) {
	if j == nil {
		return
	}
	var properties []string
	for _, p := range []struct{ name, value string }{
		{"file", j.relative(a.File)}, {"line", number(a.Line)}, {"title", a.Title},
	} {
		if p.value != "" {
			properties = append(properties, p.name+"="+property.Replace(p.value))
		}
	}
	list := strings.Join(properties, ",")
	if list != "" {
		list = " " + list
	}
	fmt.Fprintf(j.Commands, "::%s%s::%s\n", a.Level, list, data.Replace(a.Text))
}

// What would end a workflow command, or a property of it.
var (
	data     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// relative is how the workflow knows a file.
func (j *Job) relative(file string) string {
	if file == "" || j.Workspace == "" {
		return file
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return file
	}
	rel, err := filepath.Rel(j.Workspace, abs)
	if err != nil || strings.HasPrefix(rel, "..") {
		return file
	}
	return filepath.ToSlash(rel)
}

// Output sets an output of the step. The value may hold anything: its end is
// marked by a word that nobody can guess.
func (j *Job) Output(name, value string) error {
	if j == nil || j.output == "" {
		return nil
	}
	end := "end_" + rand.Text()
	return add(j.output, fmt.Sprintf("%s<<%s\n%s\n%s\n", name, end, value, end))
}

// Summarize adds Markdown to the summary of the step. GitHub shows one MiB; what
// is longer is cut there.
func (j *Job) Summarize(markdown []byte) error {
	if j == nil || j.summary == "" {
		return nil
	}
	const most = 1 << 20
	if len(markdown) > most {
		const rest = "\n\n… cut, it is longer than a summary may be\n"
		markdown = append(bytes.ToValidUTF8(markdown[:most-len(rest)], nil), rest...)
	}
	return add(j.summary, string(markdown))
}

func add(file, text string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("telling GitHub Actions: %w", err)
	}
	_, err = io.WriteString(f, text)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("telling GitHub Actions: %w", err)
	}
	return nil
}

// Cell makes a text fit into one cell of a Markdown table.
func Cell(text string) string { return cell.Replace(text) }

var cell = strings.NewReplacer("|", `\|`, "\n", " ", "\r", "", "<", "&lt;")
