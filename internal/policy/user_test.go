package policy

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// dir writes files, given as name and text in turn, into a new directory.
func dir(t *testing.T, files ...string) string {
	t.Helper()
	root := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(root, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const freeze = `package sluice.freeze

import data.lib.calendar

deny contains {"message": "no release on a Friday", "input": "release.version", "fix": "wait until Monday"} if calendar.friday
`

const calendar = `package lib.calendar

friday if time.weekday(time.now_ns()) == "Friday"
`

func TestUserRulesAreAdded(t *testing.T) {
	opts := Options{
		Dirs: []string{dir(t, "freeze.rego", freeze, "lib/calendar.rego", calendar, "README.md", "text", "freeze_test.rego", "package sluice.freeze_test\n\ntest_x := true\n")},
		Now:  time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC), // a Friday
	}
	in := good()
	in.Object.Signed = false
	got, err := Evaluate(t.Context(), in, opts)
	if err != nil {
		t.Fatal(err)
	}
	want := []Denial{
		{Rule: "freeze", Message: "no release on a Friday", Input: "release.version", Fix: "wait until Monday"},
		{
			Rule: "missing_signature", Message: "eBPF object has no verified signature", Input: "bpf/probe.bpf.o",
			Fix: "sign it with the release key (sluice sign), or name the key that signed it",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("denials (-want +got):\n%s", diff)
	}
	opts.Now = opts.Now.Add(24 * time.Hour)
	if got, err := Evaluate(t.Context(), good(), opts); err != nil || len(got) != 0 {
		t.Errorf("on a Saturday: %v, %v", got, err)
	}
}

// TestWhatIsNotAnAnswerDenies holds every way in which a user's rules may fail
// to answer. Each must be an error, and most name the line.
func TestWhatIsNotAnAnswerDenies(t *testing.T) {
	const finding = `{"message": "m", "input": "i", "fix": "f"}`
	for name, tt := range map[string]struct{ text, want string }{
		"syntax error":                    {"package sluice.x\n\ndeny contains {", "x.rego:3: "},
		"the old Rego":                    {"package sluice.x\n\ndeny[x] { x := 1 }", "x.rego:3: "},
		"empty file":                      {"", "x.rego: empty module"},
		"no package":                      {"deny contains 1", "x.rego:1: "},
		"a package nobody asks":           {"package mine\n\ndeny contains " + finding, "x.rego:1: package mine would never be asked"},
		"the whole tree":                  {"package sluice\n\ndeny contains " + finding, "x.rego:1: package sluice belongs to the built-in rules"},
		"a built-in rule":                 {"package sluice.builtin.size_budget\n\ndeny := set()", "x.rego:1: package sluice.builtin.size_budget belongs"},
		"below a built-in rule":           {"package sluice.builtin.size_budget.x\n\ndeny := set()", "belongs to the built-in rules"},
		"beside the built-in rules":       {"package sluice.builtin.mine\n\ndeny := set()", "belongs to the built-in rules"},
		"the built-in rules as one":       {"package sluice.builtin\n\nsize_budget := 1", "belongs to the built-in rules"},
		"quoted":                          {"package sluice[\"builtin\"].size_budget\n\ndeny := set()", "belongs to the built-in rules"},
		"a built-in helper":               {"package lib.semver\n\nvalid(x) := true", "package lib.semver belongs to the built-in rules"},
		"deny in a helper":                {"package lib.x\n\ndeny contains " + finding, "x.rego:3: deny in a lib package"},
		"no deny":                         {"package sluice.x\n\nallow := true", "package sluice.x does not define deny"},
		"deny below another name":         {"package sluice.x\n\ny.deny contains " + finding, "package sluice.x does not define deny"},
		"http.send":                       {"package sluice.x\n\ndeny contains " + finding + " if http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1\"}).status_code == 1", "x.rego:3: undefined function http.send"},
		"opa.runtime":                     {"package sluice.x\n\ndeny contains " + finding + " if opa.runtime().env.HOME", "undefined function opa.runtime"},
		"a name server":                   {"package sluice.x\n\ndeny contains " + finding + " if net.lookup_ip_addr(\"a\")", "undefined function net.lookup_ip_addr"},
		"chance":                          {"package sluice.x\n\ndeny contains " + finding + " if rand.intn(\"a\", 2) == 1", "undefined function rand.intn"},
		"a misspelt field of the input":   {"package sluice.x\n\ndeny contains " + finding + " if input.artifcats[_].signed == false", "x.rego:3: undefined ref: input.artifcats"},
		"a misspelt field of an artifact": {"package sluice.x\n\ndeny contains " + finding + " if input.artifacts[_].sined == false", "x.rego:3: undefined ref"},
		"an unsafe variable":              {"package sluice.x\n\ndeny contains " + finding + " if y > 1", "x.rego:3: "},
		"division by zero":                {"package sluice.x\n\ndeny contains " + finding + " if 1 / (count(input.artifacts) - 1) == 1", "policy rule x: "},
		"a value of the wrong type":       {"package sluice.x\n\ndeny contains " + finding + " if lower(input.artifacts[0].sbom) == \"\"", "policy rule x: "},
		"two values":                      {"package sluice.x\n\nz := 1\nz := 2 if input.release.name\n\ndeny contains " + finding + " if z == 1", "policy rule x: "},
		"undefined":                       {"package sluice.x\n\ndeny := {" + finding + "} if input.release.name == \"another\"", "policy rule x: deny is undefined"},
		"a boolean":                       {"package sluice.x\n\ndeny := false", "policy rule x: deny is not a set"},
		"an object":                       {"package sluice.x\n\ndeny := {}", "policy rule x: deny is not a set"},
		"a function":                      {"package sluice.x\n\ndeny(y) := y", "policy rule x: "},
		"a denial that is a text":         {"package sluice.x\n\ndeny contains \"no\"", `policy rule x: an element of deny is "no"; wanted an object`},
		"a denial without fix":            {"package sluice.x\n\ndeny contains {\"message\": \"m\", \"input\": \"i\"}", "fix must not be empty"},
		"a denial with another field":     {"package sluice.x\n\ndeny contains {\"message\": \"m\", \"input\": \"i\", \"fix\": \"f\", \"level\": 1}", "level"},
	} {
		t.Run(name, func(t *testing.T) {
			denials, err := Evaluate(t.Context(), good(), Options{Dirs: []string{dir(t, "x.rego", tt.text)}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v; want one with %q (denials %v)", err, tt.want, denials)
			}
		})
	}
}

func TestDirectoriesThatCannotBeUsed(t *testing.T) {
	for name, tt := range map[string]struct{ dir, want string }{
		"missing":               {filepath.Join(t.TempDir(), "none"), "no such file"},
		"without rules":         {dir(t, "README.md", "text"), "no rule in this directory"},
		"tests only":            {dir(t, "a_test.rego", "package sluice.a_test\n\ntest_a := true"), "no rule in this directory"},
		"a rule in a test file": {dir(t, "a.rego", calendar, "b_test.rego", "package sluice.b\n\ndeny contains 1"), "b_test.rego:3: deny in a test file"},
		"data files":            {dir(t, "a.rego", freeze, "data.json", "{}"), "data.json: data files are not read"},
		"a directory as file":   {dir(t, "a.rego/b.txt", ""), "no rule in this directory"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Evaluate(t.Context(), good(), Options{Dirs: []string{tt.dir}}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v; want one with %q", err, tt.want)
			}
		})
	}
	t.Run("every problem at once", func(t *testing.T) {
		_, err := Evaluate(t.Context(), good(), Options{Dirs: []string{dir(t, "a.rego", "package mine", "b.rego", "package sluice.builtin")}})
		if err == nil || !strings.Contains(err.Error(), "a.rego") || !strings.Contains(err.Error(), "b.rego") {
			t.Errorf("error %v; want both files", err)
		}
		var le *LoadError
		if !errors.As(err, &le) || le.Hint() == "" || le.Line != 1 {
			t.Errorf("%#v is no LoadError with line and hint", err)
		}
	})
}

func TestDataThatWouldCoverRules(t *testing.T) {
	for _, name := range []string{"sluice", "lib"} {
		if _, err := Evaluate(t.Context(), good(), Options{Data: map[string]any{name: map[string]any{}}}); err == nil {
			t.Errorf("data named %s was taken", name)
		}
	}
	if _, err := Evaluate(t.Context(), good(), Options{Data: map[string]any{"denied": "everything"}}); err == nil {
		t.Error("denied as a text was taken")
	}
}

func TestTimeLimit(t *testing.T) {
	endless := map[string]string{
		"a loop":                  "some a in numbers.range(1, 100000)\n\tsome b in numbers.range(1, 100000)\n\ta * b == -1",
		"a built-in that is busy": "count(net.cidr_expand(\"10.0.0.0/7\")) == 0",
	}
	for name, body := range endless {
		t.Run(name, func(t *testing.T) {
			opts := Options{
				Dirs:    []string{dir(t, "x.rego", "package sluice.x\n\ndeny contains {\"message\": \"m\", \"input\": \"i\", \"fix\": \"f\"} if {\n\t"+body+"\n}")},
				Timeout: 200 * time.Millisecond,
			}
			start := time.Now()
			_, err := Evaluate(t.Context(), good(), opts)
			if took := time.Since(start); !errors.Is(err, ErrTimeout) || took > time.Minute {
				t.Errorf("error %v after %v; want ErrTimeout after 200 ms", err, took)
			}
		})
	}
	t.Run("cancelled by the caller", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Evaluate(ctx, good(), Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v; want context.Canceled", err)
		}
	})
}

// TestNoNetwork checks that the remaining way to a server, references in a
// JSON Schema, is closed too.
func TestNoNetwork(t *testing.T) {
	var hits atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer server.Close()
	rule := `package sluice.x

deny contains {"message": "m", "input": "i", "fix": "f"} if json.match_schema({}, {"$ref": "` + server.URL + `"})[0]
`
	_, err := Evaluate(t.Context(), good(), Options{Dirs: []string{dir(t, "x.rego", rule)}})
	if err == nil || hits.Load() != 0 {
		t.Errorf("error %v, %d requests reached the server; want an error and none", err, hits.Load())
	}
}
