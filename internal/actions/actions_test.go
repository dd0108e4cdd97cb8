package actions

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// job is a step whose files are in a folder of their own.
func job(t *testing.T) (j *Job, commands *bytes.Buffer, read func(name string) string) {
	t.Helper()
	dir := t.TempDir()
	env := map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": dir,
		"GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary"),
	}
	commands = &bytes.Buffer{}
	return New(func(name string) string { return env[name] }, commands), commands, func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

func TestOutsideOfAWorkflowNothingHappens(t *testing.T) {
	var commands bytes.Buffer
	j := New(func(string) string { return "" }, &commands)
	j.Annotate(Annotation{Level: Error, Text: "lost"})
	if err := j.Output("a", "b"); err != nil {
		t.Error(err)
	}
	if err := j.Summarize([]byte("# x")); err != nil {
		t.Error(err)
	}
	if j != nil || commands.Len() > 0 {
		t.Errorf("%v, wrote %q", j, commands.String())
	}
}

func TestAnAnnotationIsOneCommand(t *testing.T) {
	for name, tt := range map[string]struct {
		in   Annotation
		want string
	}{
		"about a line":            {Annotation{Level: Error, File: "WS/deploy/sluice.yaml", Line: 7, Title: "config", Text: "no"}, "::error file=deploy/sluice.yaml,line=7,title=config::no\n"},
		"about the job":           {Annotation{Level: Warning, Text: "50% slower"}, "::warning::50%25 slower\n"},
		"several lines":           {Annotation{Level: Notice, Text: "a\r\nb"}, "::notice::a%0D%0Ab\n"},
		"a title that is hostile": {Annotation{Level: Error, Title: "a,b::c", Text: "::set-output name=x::y"}, "::error title=a%2Cb%3A%3Ac::::set-output name=x::y\n"},
		"a file somewhere else":   {Annotation{Level: Error, File: "/elsewhere/x", Text: "no"}, "::error file=/elsewhere/x::no\n"},
	} {
		t.Run(name, func(t *testing.T) {
			j, commands, _ := job(t)
			tt.in.File = strings.Replace(tt.in.File, "WS", j.Workspace, 1)
			j.Annotate(tt.in)
			if diff := cmp.Diff(tt.want, commands.String()); diff != "" {
				t.Error(diff)
			}
			if n := strings.Count(commands.String(), "\n"); n != 1 {
				t.Errorf("%d lines", n)
			}
		})
	}
}

// outputs reads a file of outputs the way the runner does.
func outputs(text string) map[string]string {
	got := map[string]string{}
	for text != "" {
		head, rest, _ := strings.Cut(text, "\n")
		name, end, _ := strings.Cut(head, "<<")
		value, rest, _ := strings.Cut(rest, "\n"+end+"\n")
		got[name], text = value, rest
	}
	return got
}

func TestOutputsHoldAnything(t *testing.T) {
	j, _, read := job(t)
	want := map[string]string{"version": "v1.0.0", "reason": "two\nlines", "hostile": "x\nEOF\nadmin<<EOF\nyes\nEOF"}
	for _, name := range []string{"version", "reason", "hostile"} {
		if err := j.Output(name, want[name]); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, outputs(read("output"))); diff != "" {
		t.Error(diff)
	}
}

func TestASummaryGrowsAndHasABound(t *testing.T) {
	j, _, read := job(t)
	for _, part := range []string{"# one\n", "two\n"} {
		if err := j.Summarize([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if got := read("summary"); got != "# one\ntwo\n" {
		t.Errorf("got %q", got)
	}
	if err := j.Summarize([]byte(strings.Repeat("ä", 1<<20))); err != nil {
		t.Fatal(err)
	}
	if got := read("summary"); len(got) > 1<<20+20 || !strings.HasSuffix(got, "may be\n") {
		t.Errorf("%d bytes, ends with %q", len(got), got[len(got)-20:])
	}
}

func TestAFullDiskIsSaid(t *testing.T) {
	j := &Job{output: "/dev/full", summary: "/dev/full"}
	if err := j.Output("a", "b"); err == nil || !strings.Contains(err.Error(), "GitHub Actions") {
		t.Errorf("got %v", err)
	}
	if err := j.Summarize([]byte("x")); err == nil {
		t.Error("no error")
	}
}

func TestSARIF(t *testing.T) {
	var b bytes.Buffer
	err := WriteSARIF(&b, "v1", []Finding{
		{Rule: "licences", File: "go.mod", Text: "AGPL", Fix: "take another"},
		{Rule: "config", File: "sluice.yaml", Line: 3, Text: "120% is more than 100%"},
		{Rule: "config", File: "sluice.yaml", Line: 9, Text: "unknown field"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var log sarifLog
	if err := json.Unmarshal(b.Bytes(), &log); err != nil {
		t.Fatal(err)
	}
	run := log.Runs[0]
	if log.Version != "2.1.0" || len(run.Results) != 3 || len(run.Tool.Driver.Rules) != 2 {
		t.Errorf("got %+v", log)
	}
	if r := run.Results[0]; r.Message.Text != "AGPL\ntake another" || r.Locations[0].Physical.Region.StartLine != 1 {
		t.Errorf("got %+v", r)
	}
	if r := run.Results[1]; r.Locations[0].Physical.Artifact.URI != "sluice.yaml" || r.Locations[0].Physical.Region.StartLine != 3 {
		t.Errorf("got %+v", r)
	}
}

func TestSARIFWithoutFindingsIsALogThatSaysSo(t *testing.T) {
	var b bytes.Buffer
	if err := WriteSARIF(&b, "v1", nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), `"results": []`) || !strings.Contains(b.String(), `"rules": []`) {
		t.Error(b.String())
	}
}

func TestACellStaysOne(t *testing.T) {
	if got := Cell("a|b\nc <img src=x>"); got != `a\|b c &lt;img src=x>` {
		t.Errorf("got %q", got)
	}
}
