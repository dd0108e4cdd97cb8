package config

import (
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// minimal ends inside deploy, so that tests can go on there or begin a new section.
const minimal = `name: hello
build: {main: ./cmd/hello}
deploy:
  local: {listen: 127.0.0.1:8080}
`

func TestMinimalFileIsComplete(t *testing.T) {
	c, err := Parse([]byte("name: hello\nbuild: {main: ./cmd/hello}\ndeploy: {local: {listen: 127.0.0.1:8080}}\n"), "/srv/hello/sluice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want := `{
 "name": "hello",
 "build": {
  "main": "./cmd/hello",
  "dir": "/srv/hello",
  "platforms": [
   "linux/amd64",
   "linux/arm64",
   "linux/arm",
   "linux/riscv64",
   "darwin/amd64",
   "darwin/arm64",
   "windows/amd64",
   "windows/arm64"
  ],
  "stamp": "main.version"
 },
 "pack": {
  "upx": "auto",
  "level": 1
 },
 "service": {
  "start": "30s",
  "stop": "10s"
 },
 "sign": {
  "key_env": "SLUICE_KEY",
  "passphrase_env": "SLUICE_PASSPHRASE"
 },
 "policy": {},
 "publish": {},
 "bpf": {},
 "deploy": {
  "target": "local",
  "local": {
   "listen": "127.0.0.1:8080",
   "drain": "10s"
  },
  "canary": {
   "steps": [
    {
     "weight": "10%",
     "min": "5s"
    },
    {
     "weight": "50%",
     "min": "5s"
    }
   ],
   "warmup": "2s",
   "deadline": "5m",
   "block": "1s"
  },
  "gate": {
   "alpha": "1%",
   "beta": "5%",
   "tolerance": "15%",
   "pass_tolerance": "10%",
   "odds_ratio": 2
  }
 }
}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("effective configuration (-want +got):\n%s", diff)
	}
}

func TestValuesArrive(t *testing.T) {
	c, err := Parse([]byte(`
name: "hello-2"
version: "1.2"
build: {main: cmd/hello, dir: src, budget: 1.5MiB, tags: [a, b.c]}
service:
  args: &words [--a=$HOME, "8080"]
  env: {PORT: "8080", EMPTY: ""}
  port: 8081
  start: 1m30s
sign: {key: k, public_key: /etc/p.pub}
policy: {dirs: [p], denied_packages: *words}
publish: {registry: localhost:5000/team/hello, insecure: true}
bpf: {object: o, bundle: b}
deploy:
  local: {listen: ":80", drain: 0s}
  canary: {steps: [{weight: 0.01}, {weight: 25%, min: 0s}]}
  gate: {tolerance: 0.02, pass_tolerance: 0, odds_ratio: 1.5, slo: {latency: {threshold: 250ms}, errors: 0.5%}}
`), "/srv/sluice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Name: "hello-2", Version: "1.2",
		Build: Build{
			Main: "./cmd/hello", Dir: "/srv/src", Budget: 3 << 19, Tags: []string{"a", "b.c"}, Stamp: "main.version",
			Platforms: c.Build.Platforms,
		},
		Pack: Pack{UPX: "auto", Level: 1},
		Service: Service{
			Args: []string{"--a=$HOME", "8080"}, Env: map[string]string{"PORT": "8080", "EMPTY": ""}, Port: 8081,
			Start: Duration(90 * time.Second), Stop: Duration(10 * time.Second),
		},
		Sign:    Sign{Key: "/srv/k", KeyEnv: "SLUICE_KEY", PublicKey: "/etc/p.pub", PassphraseEnv: "SLUICE_PASSPHRASE"},
		Policy:  Policy{Dirs: []string{"/srv/p"}, DeniedPackages: []string{"--a=$HOME", "8080"}},
		Publish: Publish{Registry: "localhost:5000/team/hello", Insecure: true},
		BPF:     BPF{Object: "/srv/o", Bundle: "/srv/b"},
		Deploy: Deploy{
			Target: "local",
			Local:  Local{Listen: Address(netip.MustParseAddrPort("[::]:80"))},
			Canary: Canary{
				Steps:  []Step{{0.01, Duration(5 * time.Second)}, {0.25, 0}},
				Warmup: Duration(2 * time.Second), Deadline: Duration(5 * time.Minute), Block: Duration(time.Second),
			},
			Gate: Gate{
				Alpha: 0.01, Beta: 0.05, Tolerance: 0.02, PassTolerance: 0, OddsRatio: 1.5,
				SLO: SLO{Latency: LatencySLO{Duration(250 * time.Millisecond), 0.01}, Errors: 0.005},
			},
		},
	}
	c.file, c.position = "", nil
	if diff := cmp.Diff(want, *c, cmp.AllowUnexported(Config{}), cmp.Comparer(func(a, b Address) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestProblems is one table for everything that can be wrong with a value: what follows the smallest file, and the
// problems without the file's name.
func TestProblems(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"an unknown field is told from a similar one":   {"  cannary: {}\n", "5: deploy.cannary: unknown field (did you mean canary?)"},
		"a dash for an underscore is understood":        {"sign: {public-key: x}\n", "5: sign.public-key: unknown field (did you mean public_key?)"},
		"a field of another section is pointed to":      {"listen: 127.0.0.1:80\n", "5: listen: unknown field (did you mean deploy.local.listen?)"},
		"an unlikely field gets the list":               {"pack: {colour: red}\n", "5: pack.colour: unknown field (known: level, upx)"},
		"a name of many letters":                        {strings.Repeat("x", 70) + ": 1\n", "5: " + strings.Repeat("x", 70) + ": unknown field (known: bpf, build, deploy, name, pack, policy, publish, service, sign, version)"},
		"a field given twice":                           {"name: other\n", "5: name: is given twice, first in line 1"},
		"a variable given twice":                        {"service: {env: {A: x, A: y}}\n", "5: service.env.A: is given twice, first in line 5"},
		"a merge key":                                   {"service: {<<: {port: 80}}\n", "5: service.<<: merge keys are not supported: write the fields out"},
		"a list as a key":                               {"? [a]\n: b\n", "5: a list where the name of a field belongs"},
		"a number as a version":                         {"version: 1.2\n", "5: version: 1.2 is a number where text belongs: write \"1.2\" in quotes"},
		"a date as a version":                           {"version: 2024-01-01\n", "5: version: 2024-01-01 is a date where text belongs: write \"2024-01-01\" in quotes"},
		"a boolean as a variable":                       {"service: {env: {DEBUG: true}}\n", "5: service.env.DEBUG: true is a boolean where text belongs: write \"true\" in quotes"},
		"a number as an argument":                       {"service:\n  args:\n  - -p\n  - 80\n", "8: service.args[1]: 80 is a number where text belongs: write \"80\" in quotes"},
		"an empty value":                                {"service: {health: }\n", "5: service.health: has no value: give it one or remove the line"},
		"a list instead of text":                        {"version: [v1]\n", "5: version: a list where text belongs"},
		"text instead of a section":                     {"service: fast\n", "5: service: text where a section (name: value) belongs"},
		"text instead of a list":                        {"service: {args: -v}\n", "5: service.args: text where a list ([a, b]) belongs"},
		"a list instead of variables":                   {"service: {env: [A=b]}\n", "5: service.env: a list where a section (NAME: text) belongs"},
		"text instead of a truth value":                 {"publish: {registry: a/b, insecure: yes}\n", "5: publish.insecure: \"yes\" is not true or false"},
		"a quoted truth value":                          {"publish: {registry: a/b, insecure: \"true\"}\n", "5: publish.insecure: \"true\" is text where true or false belongs: remove the quotes"},
		"a fraction instead of a whole number":          {"pack: {level: 1.5}\n", "5: pack.level: \"1.5\" is not a whole number"},
		"infinity":                                      {"  gate: {odds_ratio: .inf}\n", "5: deploy.gate.odds_ratio: \".inf\" is not a number"},
		"no number":                                     {"  gate: {alpha: nan}\n", "5: deploy.gate.alpha: \"nan\" is not a share (write 10% or 0.1)"},
		"too much":                                      {"  canary:\n    steps:\n    - weight: 120%\n", "7: deploy.canary.steps[0].weight: 120% is more than 100%"},
		"too little":                                    {"  canary: {block: 1ms}\n", "5: deploy.canary.block: 1ms is less than 100ms"},
		"an objective the wrong way round":              {"  gate: {slo: {latency: {threshold: 1s, ratio: 99%}}}\n", "5: deploy.gate.slo.latency.ratio: 99% is more than 50%: it is the share that may be slower"},
		"a choice that does not exist":                  {"pack: {upx: requir}\n", "5: pack.upx: \"requir\" is not one of auto, off, require (did you mean require?)"},
		"a type of the user's own":                      {"version: !ver v1\n", "5: version: v1 is a value of type !ver where text belongs: write \"v1\" in quotes"},
		"a version that is no folder":                   {"version: ../v1\n", "5: version: \"../v1\" cannot be a version (write v1.2.3)"},
		"a health path without slash":                   {"service: {health: healthz}\n", "5: service.health: \"healthz\" is not a path (write /healthz)"},
		"a variable without a name":                     {"service: {env: {\"\": x}}\n", "5: service.env.: \"\" is not the name of an environment variable"},
		"a NUL byte in an argument":                     {"service: {args: [\"a\\0b\"]}\n", "5: service.args[0]: contains a NUL byte"},
		"a port that is none":                           {"service: {port: 70000}\n", "5: service.port: 70000 is more than 65535"},
		"the key itself":                                {"sign: {key_env: '-----BEGIN'}\n", "5: sign.key_env: \"-----BEGIN\" is not the name of an environment variable; the key itself does not belong in this file"},
		"the passphrase itself":                         {"sign: {passphrase_env: hunter 2}\n", "5: sign.passphrase_env: \"hunter 2\" is not the name of an environment variable; the passphrase itself does not belong in this file"},
		"a home folder":                                 {"policy: {dirs: [rules, ~/rules]}\n", "5: policy.dirs[1]: \"~/rules\": ~ is not expanded, write the path out"},
		"an empty path":                                 {"sign: {key: \"\"}\n", "5: sign.key: is empty: name a file or remove the line"},
		"a blank in a denied package":                   {"policy: {denied_packages: [\" x\"]}\n", "5: policy.denied_packages[0]: \" x\" is empty or has blanks around it, and would match nothing"},
		"a registry with a scheme":                      {"publish: {registry: \"https://a.example/b\"}\n", "5: publish.registry: \"https://a.example/b\" has a scheme: write host/repository"},
		"a registry with a tag":                         {"publish: {registry: \"a.example/b:v1\"}\n", "5: publish.registry: \"a.example/b:v1\" is not host/repository without tag (write registry.example.com/team/hello)"},
		"insecure, but no registry":                     {"publish: {insecure: true}\n", "5: publish.insecure: is given, but publish.registry is not"},
		"a bundle without object":                       {"bpf: {bundle: b}\n", "5: bpf.bundle: signs an object, but bpf.object is not given"},
		"a bundle without key":                          {"bpf: {object: o, bundle: b}\n", "5: bpf.bundle: is verified, but none of sign.public_key, sign.key and sign.keyless is given"},
		"no step":                                       {"  canary: {steps: []}\n", "5: deploy.canary.steps: has no step (leave it out for 10% and 50%)"},
		"a step without weight":                         {"  canary: {steps: [{min: 5s}]}\n", "5: deploy.canary.steps[0].weight: is missing (for example 10%)"},
		"a step that is a number":                       {"  canary: {steps: [10%]}\n", "5: deploy.canary.steps[0]: text where a section (name: value) belongs"},
		"a last step of everything":                     {"  canary: {steps: [{weight: 100%}]}\n", "5: deploy.canary.steps[0].weight: 100% leaves no traffic to compare with; after the last step the new version gets all of it anyway"},
		"a falling weight":                              {"  canary: {steps: [{weight: 20%}, {weight: 10%}]}\n", "5: deploy.canary.steps[1].weight: 10% is not more than the 20% of the step before"},
		"a deadline before the steps end":               {"  canary: {deadline: 10s}\n", "5: deploy.canary.deadline: 10s is over before warmup and the steps' min are (12s in all)"},
		"a broken duration is not compared":             {"  canary: {deadline: 10s, warmup: 1x}\n", "5: deploy.canary.warmup: \"1x\" is not a duration (write 250ms, 5s, 2m or 1h30m)"},
		"objectives without any":                        {"  gate: {slo: {}}\n", "5: deploy.gate.slo: names no objective: give latency or errors, or remove it"},
		"a latency objective without threshold":         {"  gate: {slo: {latency: {}}}\n", "5: deploy.gate.slo.latency.threshold: is missing (for example 250ms)"},
		"an anchor inside itself":                       {"service: {args: &a [*a]}\n", "5: service.args[0]: a list where text belongs"},
		"a second document":                             {"---\nname: x\n", "5: a second document (---) begins here; one file is one configuration"},
		"a list where a duration belongs":               {"service: {start: [5s]}\n", "5: service.start: a list where a value such as 30s belongs"},
		"problems come in the order of lines":           {"zzz: 1\nversion: 2\n", "5: zzz: unknown field (known: bpf, build, deploy, name, pack, policy, publish, service, sign, version)\n6: version: 2 is a number where text belongs: write \"2\" in quotes"},
		"what is in a section that is given twice once": {"pack: {upx: off}\npack: {upx: nix}\n", "6: pack: is given twice, first in line 5"},
	} {
		t.Run(name, func(t *testing.T) { wantProblems(t, minimal+tt.text, tt.want) })
	}
}

func TestBuildProblems(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"a file for a package":      {"main: ./cmd/main.go", "build.main: \"./cmd/main.go\" is a file; name its folder: ./cmd"},
		"many packages":             {"main: ./...", "build.main: \"./...\" does not name one package (write ./cmd/hello)"},
		"a flag for a package":      {"main: -o", "build.main: \"-o\" does not name one package (write ./cmd/hello)"},
		"no package":                {"dir: x", "build.main: is missing (for example ./cmd/hello)"},
		"a platform of other tools": {"main: x, platforms: [linux/amd64, linux/x86_64]", "build.platforms[1]: \"linux/x86_64\" is not a platform (did you mean linux/amd64?)"},
		"a platform with variant":   {"main: x, platforms: [linux/arm/v7]", "build.platforms[0]: \"linux/arm/v7\" is not a platform (did you mean linux/arm?)"},
		"a slip in a platform":      {"main: x, platforms: [linux/amd64, darwn/arm64]", "build.platforms[1]: \"darwn/arm64\" is not a platform (did you mean darwin/arm64?)"},
		"an unheard-of platform":    {"main: x, platforms: [linux/amd64, os2/ppc]", "build.platforms[1]: \"os2/ppc\" is not a platform (write linux/amd64; \"go tool dist list\" names all)"},
		"a platform given twice":    {"main: x, platforms: [linux/arm, linux/arm]", "build.platforms[1]: linux/arm is given twice"},
		"no platform":               {"main: x, platforms: []", "build.platforms: names no platform (leave it out for the usual eight)"},
		"none for this machine":     {"main: x, platforms: [darwin/arm64]", "build.platforms: has no linux/… platform, but the target local runs the service on this Linux machine"},
		"a stamp without package":   {"main: x, stamp: version", "build.stamp: \"version\" is not a variable (write main.version)"},
		"a list of tags in one":     {"main: x, tags: [\"a,b\"]", "build.tags[0]: \"a,b\" is not a build tag: letters, digits, \"_\" and \".\" only"},
		"a budget without unit":     {"main: x, budget: 20", "build.budget: 20 has no unit (write 20MiB or 20B)"},
		"a budget of nothing":       {"main: x, budget: 0B", "build.budget: 0B is less than 1KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte("name: hello\ndeploy: {local: {listen: ':80'}}\nbuild: {"+tt.text+"}\n"), "f")
			if err == nil {
				t.Fatal("accepted")
			}
			got := strings.ReplaceAll(err.Error(), "f:3: ", "")
			for line := range strings.SplitSeq(tt.want, "\n") {
				if !strings.Contains(got, line) {
					t.Errorf("got %q\nwant %q", got, line)
				}
			}
		})
	}
}

func TestWholeFileProblems(t *testing.T) {
	missing := "1: name: is missing (for example hello)\n1: build.main: is missing (for example ./cmd/hello)\n1: deploy.local.listen: is missing (for example 127.0.0.1:8080)"
	for name, tt := range map[string]struct{ text, want string }{
		"an empty file":               {"", missing},
		"a file of comments":          {"# nothing\n", missing},
		"a missing field's section":   {"name: x\nbuild:\n  dir: .\ndeploy:\n  local: {}\n", "2: build.main: is missing (for example ./cmd/hello)\n5: deploy.local.listen: is missing (for example 127.0.0.1:8080)"},
		"an empty section":            {"name: x\nbuild:\ndeploy: {local: {listen: ':1'}}\n", "2: build.main: is missing (for example ./cmd/hello)"},
		"a name for no host":          {"name: Hello_World\nbuild: {main: x}\ndeploy: {local: {listen: ':1'}}\n", "1: name: \"Hello_World\" is not a DNS label: 1 to 63 of a-z, 0-9 and \"-\", with a letter or digit at both ends"},
		"a list":                      {"- name\n", "1: a list where a section (name: value) belongs"},
		"a word":                      {"hello", "1: text where a section (name: value) belongs"},
		"a tab":                       {"name: x\n\tbuild: x\n", "2: not YAML: found a tab character that violates indentation"},
		"a colon in a value":          {"name: x\nversion: a: b\n", "2: not YAML: a second \": \" in one line: put the value in quotes, or check the indentation"},
		"a reserved character":        {"name: @x\n", "1: not YAML: a tab indents, or a value begins with @, ` or %: indent with spaces, put such values in quotes"},
		"a bracket that is not shut":  {"name: [x\n", "1: not YAML: did not find expected ',' or ']'"},
		"bytes that are no text":      {"name: \"\xff\"", "1: not YAML: invalid leading UTF-8 octet"},
		"an alias of nothing":         {"name: *x\n", "1: not YAML: unknown anchor 'x' referenced"},
		"a file of another kind":      {strings.Repeat("# x\n", maxBytes/4+1), "1: is larger than 1 MiB: is it the right file?"},
		"both wrong sections at once": {"name: x\nbuild: text\ndeploy: 5\n", "2: build: text where a section (name: value) belongs\n3: deploy: a number where a section (name: value) belongs"},
	} {
		t.Run(name, func(t *testing.T) { wantProblems(t, tt.text, tt.want) })
	}
}

// wantProblems compares the problems of a file, written without its name.
func wantProblems(t *testing.T, text, want string) {
	t.Helper()
	_, err := Parse([]byte(text), "sluice.yaml")
	var problems *Error
	if !errors.As(err, &problems) {
		t.Fatalf("got %v, want an *Error", err)
	}
	if got := strings.ReplaceAll(err.Error(), "sluice.yaml:", ""); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestComplaintHasTheLine(t *testing.T) {
	c, err := Parse([]byte(minimal+"  canary:\n    steps:\n    - weight: 5%\n"), "dir/sluice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"deploy.local.listen":           "dir/sluice.yaml:4: deploy.local.listen: port 8080 is in use",
		"deploy.canary.steps[0].weight": "dir/sluice.yaml:7: deploy.canary.steps[0].weight: port 8080 is in use",
		"deploy.canary.steps[0].min":    "dir/sluice.yaml:7: deploy.canary.steps[0].min: port 8080 is in use",
		"deploy.gate.alpha":             "dir/sluice.yaml:3: deploy.gate.alpha: port 8080 is in use",
		"sign.key":                      "dir/sluice.yaml:1: sign.key: port 8080 is in use",
	} {
		if got := c.Complaint(path, "port %d is in use", 8080).Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if c.File() != "dir/sluice.yaml" {
		t.Errorf("File() = %s", c.File())
	}
}

func TestLoadLooksAtTheDisk(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module example.com/hello\n")
	write("cmd/hello/main.go", "package main\n")
	write("inner/go.mod", "module example.com/inner\n")
	write("inner/cmd/x/main.go", "package main\n")
	write("empty/x.txt", "")
	deploy := "name: hello\ndeploy: {local: {listen: ':80'}}\n"
	for name, tt := range map[string]struct{ text, want string }{
		"everything there":       {"build: {main: cmd/hello}\nsign: {key: not-yet.key}\npolicy: {dirs: [empty]}\nbpf: {object: empty/x.txt}\n", ""},
		"an import path":         {"build: {main: example.com/hello/cmd/hello}\n", ""},
		"an inner module":        {"build: {main: ./cmd/x, dir: inner}\n", ""},
		"no such package":        {"build: {main: ./cmd/helo}\n", "3: build.main: there are no Go files in DIR/cmd/helo"},
		"a package elsewhere":    {"build: {main: inner/cmd/x}\n", "3: build.main: DIR/inner/cmd/x belongs to another module: write dir: DIR/inner and main: ./cmd/x"},
		"no such module folder":  {"build: {main: ./cmd/hello, dir: other}\n", "3: build.dir: DIR/other: there is no such file or folder"},
		"a file for a folder":    {"build: {main: ./cmd/hello}\npolicy: {dirs: [go.mod]}\n", "4: policy.dirs[0]: DIR/go.mod is not a folder"},
		"a folder for a file":    {"build: {main: ./cmd/hello}\nbpf: {object: empty}\n", "4: bpf.object: DIR/empty is not a regular file"},
		"a problem of each sort": {"build: {main: ./cmd/helo}\nversion: 5\n", "3: build.main: there are no Go files in DIR/cmd/helo\n4: version: 5 is a number where text belongs: write \"5\" in quotes"},
	} {
		t.Run(name, func(t *testing.T) {
			write("sluice.yaml", deploy+tt.text)
			file := filepath.Join(dir, "sluice.yaml")
			got := ""
			if _, err := Load(file); err != nil {
				got = strings.ReplaceAll(strings.ReplaceAll(err.Error(), file+":", ""), dir, "DIR")
			}
			if got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestReadLooksForNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(file, []byte(minimal+"policy: {dirs: [rules]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(filepath.Dir(file), "rules"); c.Policy.Dirs[0] != want {
		t.Errorf("rules are in %s, want %s", c.Policy.Dirs[0], want)
	}
	var missing *NotFoundError
	if _, err := Read(file + ".not"); !errors.As(err, &missing) {
		t.Errorf("got %v", err)
	}
}

func TestLoadWithoutAFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "sluice.yaml"))
	var missing *NotFoundError
	if !errors.As(err, &missing) || !strings.HasSuffix(err.Error(), "sluice.yaml: there is no such file") {
		t.Fatalf("got %v", err)
	}
	_, example, _ := strings.Cut(missing.Hint(), "\n")
	if _, err := Parse([]byte(example), "sluice.yaml"); err != nil {
		t.Errorf("the hint's example is wrong: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	sample, err := os.ReadFile("../../sluice.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sample)
	for _, seed := range []string{minimal, "a: &a [*a]", "<<: {x: 1}", "? [a]\n: b", "name: !!binary aa==", minimal + "  canary: {steps: &s [*s]}\n", "---\n---\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data, "/d/sluice.yaml")
		if err != nil {
			var problems *Error
			if !errors.As(err, &problems) || len(problems.Problems) == 0 {
				t.Fatalf("not an *Error: %v", err)
			}
			return
		}
		// What was accepted is accepted again when it is written out with its defaults.
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(text, "/d/sluice.yaml")
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		c.position, again.position = nil, nil
		near := cmp.Comparer(func(a, b Ratio) bool { return math.Abs(float64(a-b)) < 1e-12 })
		same := cmp.Comparer(func(a, b Address) bool { return a == b })
		if diff := cmp.Diff(c, again, cmp.AllowUnexported(Config{}), cmpopts.EquateEmpty(), near, same); diff != "" {
			t.Fatalf("%s\n%s", diff, text)
		}
	})
}
