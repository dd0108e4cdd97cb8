package command

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestArgumentsThatCannotWorkSayWhatWould(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want string // "" is no error
	}{
		"a version":                       {CheckVersion("v1.2.3"), ""},
		"a version without v":             {CheckVersion("1.2.3-rc.1+build.5"), ""},
		"two numbers":                     {CheckVersion("v1.2"), "like v1.4.2"},
		"a number with a leading zero":    {CheckVersion("v1.02.3"), "like v1.4.2"},
		"no version":                      {CheckVersion(""), "like v1.4.2"},
		"a version with something behind": {CheckVersion("v1.2.3; rm -rf /"), "like v1.4.2"},
		"a version in two lines":          {CheckVersion("v1.2.3\nv1.2.4"), "like v1.4.2"},
		"no commit":                       {CheckCommit(""), ""},
		"a commit":                        {CheckCommit(strings.Repeat("a1", 20)), ""},
		"a short commit":                  {CheckCommit("a1b2c3d"), "git rev-parse HEAD"},
		"the engine itself":               {CheckEngine("v0.21.8"), ""},
		"a later engine":                  {CheckEngine("v0.22.0"), ""},
		"a build before a later engine":   {CheckEngine("v0.21.9-260801-abcdef"), ""},
		"an old engine":                   {CheckEngine("v0.20.9"), "use v0.21.8 or newer"},
		"an old engine of the same line":  {CheckEngine("v0.21.7"), "use v0.21.8 or newer"},
		"an engine without a version":     {CheckEngine("unknown"), "use Dagger v0.21.8"},
		"known platforms":                 {CheckPlatforms([]string{"linux/amd64", "linux/arm/v7"}), ""},
		"a word for a platform":           {CheckPlatforms([]string{"linux"}), "known: linux/amd64"},
		"a pattern for a platform":        {CheckPlatforms([]string{"linux/*"}), "known: linux/amd64"},
		"a way out of the folder":         {CheckPlatforms([]string{"linux/.."}), "known: linux/amd64"},
		"a form that nobody knows":        {second(Format("yaml")), "known: text, json"},
	} {
		t.Run(name, func(t *testing.T) {
			switch {
			case tt.want == "" && tt.err != nil:
				t.Error(tt.err)
			case tt.want != "" && (tt.err == nil || !strings.Contains(tt.err.Error(), tt.want)):
				t.Errorf("got %v, want it to say %q", tt.err, tt.want)
			}
		})
	}
}

func second(_ []string, err error) error { return err }

func TestOnlyWantedPlatformsAreKept(t *testing.T) {
	made := []string{"linux_amd64/", "linux_arm64/", "windows_amd64"}
	got, err := Select([]string{"windows/amd64", "linux/arm64", "linux/arm64"}, made)
	if want := []string{"windows_amd64/**", "linux_arm64/**"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	_, err = Select([]string{"linux/mips"}, made)
	if err == nil || !strings.Contains(err.Error(), `unknown platform "linux/mips" (known: linux/amd64, linux/arm64, windows/amd64)`) {
		t.Errorf("got %v", err)
	}
}

func TestAStepNamesItsVersion(t *testing.T) {
	got, err := Step("build", "v1.2.3", "--sizes")
	if want := []string{"sluice", "build", "--version", "v1.2.3", "--sizes"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := Step("build", "1"); err == nil {
		t.Error("a step for version 1 is no error")
	}
}

func TestARolloutNeedsWhatItNeeds(t *testing.T) {
	good := Rollout{Stable: "v1.0.0", Version: "v1.1.0", URL: "http://127.0.0.1:8080/", Rate: 200}
	for name, tt := range map[string]struct {
		change func(*Rollout)
		want   string
	}{
		"another address":        {func(r *Rollout) { r.URL = "127.0.0.1:8080" }, "http://127.0.0.1:8080/"},
		"no load":                {func(r *Rollout) { r.Rate = 0 }, "--rate=200"},
		"a version twice":        {func(r *Rollout) { r.Version = r.Stable }, "two versions"},
		"a stable of no version": {func(r *Rollout) { r.Stable = "old" }, "like v1.4.2"},
		"a variable of no name":  {func(r *Rollout) { r.Env = []string{"=1"} }, "NAME=VALUE"},
		"a variable of no value": {func(r *Rollout) { r.StableEnv = []string{"A"} }, "NAME=VALUE"},
	} {
		t.Run(name, func(t *testing.T) {
			r := good
			tt.change(&r)
			if _, err := r.Canary("/report"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to say %q", err, tt.want)
			}
		})
	}
}

// The scripts are run by a shell with a sluice that only says what it was
// called with.
func TestACanaryIsDeployedAfterTheStableOneUnderLoad(t *testing.T) {
	dir := t.TempDir()
	r := Rollout{
		Stable: "v1.0.0", Version: "v1.1.0", URL: "http://127.0.0.1:8080/", Rate: 200,
		Env: []string{`NAME=it's "quoted" $HOME`},
	}
	args, err := r.Canary(dir + "/report")
	if err != nil {
		t.Fatal(err)
	}
	script := strings.Replace(args[2], prepare, "\nsluice() { echo \"$*\" >>'"+dir+"/calls'; case \"$*\" in *v1.1.0*) while ! grep -q ^load '"+dir+"/calls'; do sleep 0.05; done; return 1;; load*) sleep 1;; esac; }\n", 1)
	script = strings.ReplaceAll(script, "'sluice'", "sluice")
	out, err := exec.Command("sh", "-c", script).CombinedOutput()
	if code := exitCode(err); code != 1 {
		t.Fatalf("status %d, want that of the canary's rollout: %s", code, out)
	}
	calls, err := exec.Command("cat", dir+"/calls").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"deploy --version v1.0.0 -o json\n",
		"load --rate 200 http://127.0.0.1:8080/\n",
		`deploy --version v1.1.0 -o json --env NAME=it's "quoted" $HOME` + "\n",
		"down\n",
	} {
		if !strings.Contains(string(calls), want) {
			t.Errorf("no %q in\n%s", want, calls)
		}
	}
	if !strings.HasPrefix(string(calls), "deploy --version v1.0.0") {
		t.Errorf("the stable version is not first:\n%s", calls)
	}
}

func TestObjectsAreComparedByteForByte(t *testing.T) {
	dir := t.TempDir()
	args := CompareObjects("bpf")
	for name, tt := range map[string]struct {
		prepare, generate string
		status            int
	}{
		"no object":        {"rm -rf bpf; mkdir bpf", "true", 2},
		"the same again":   {"mkdir -p bpf; echo 1 >bpf/a.o", "echo 1 >bpf/a.o", 0},
		"something else":   {"mkdir -p bpf; echo 1 >bpf/a.o", "echo 2 >bpf/a.o", 1},
		"one that is gone": {"mkdir -p bpf; echo 1 >bpf/a.o", "rm bpf/a.o", 1},
	} {
		t.Run(name, func(t *testing.T) {
			script := "cd '" + dir + "'\n" + tt.prepare + "\ngo() { " + tt.generate + "; }\n" + strings.ReplaceAll(args[2], "/tmp/objects", dir+"/objects")
			out, err := exec.Command(args[0], args[1], script, args[3], args[4]).CombinedOutput()
			if code := exitCode(err); code != tt.status {
				t.Errorf("status %d, want %d: %s", code, tt.status, out)
			}
		})
	}
}

func exitCode(err error) int {
	if e, ok := err.(*exec.ExitError); ok {
		return e.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// The script is run by a shell with a go that only says what it was called with.
func TestLintUsesTheToolsThatThereAre(t *testing.T) {
	const both = "mvdan.cc/gofumpt\nhonnef.co/go/tools/cmd/staticcheck"
	for name, tt := range map[string]struct {
		tools  string // of tools/go.mod; "": there is none
		wrong  string // the call that fails
		status int
		want   []string
	}{
		"none":                 {"", "", 0, []string{"root: vet", "sub: vet"}},
		"others":               {"vet\ngotest.tools/gotestsum", "", 0, []string{"root: vet", "sub: vet"}},
		"both":                 {both, "", 0, []string{"gofumpt ./ci/main.go ./main.go", "root: vet", "root: staticcheck", "sub: vet", "sub: staticcheck"}},
		"vet finds something":  {both, "sub: vet", 1, nil},
		"a tool is broken":     {both, "root: staticcheck", 1, nil},
		"a file is not pretty": {both, "gofumpt", 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			script := `cd "$0"; mkdir ci sub tools bin testdata out
echo 'module example.com/root' >go.mod; echo 'module example.com/sub' >sub/go.mod; echo 'module dagger/ci' >ci/go.mod
touch main.go ci/main.go ci/dagger.gen.go testdata/a.go out/a.go
test -z "$1" || echo 'module example.com/tools' >tools/go.mod`
			if out, err := exec.Command("sh", "-euc", script, dir, tt.tools).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			program := `#!/bin/sh
test "$GOFLAGS" = "-mod=mod -buildvcs=false" || { echo "error obtaining VCS status"; exit 1; }
in=${PWD##*/}; test "$PWD" != '` + dir + `' || in=root
case "$*" in
"tool -modfile=tools/go.mod") printf '%s\n' "$TOOLS"; exit ;;
"list ./..."*) test "$in" = tools || echo "$in"; exit ;;
*gofumpt*) shift 4; what="gofumpt $(echo "$@" | tr ' ' '\n' | sort | paste -sd' ')" ;;
*staticcheck*) what="$in: staticcheck" ;;
*) what="$in: $1" ;;
esac
echo "$what" >>'` + dir + `/calls'
case $what in "$WRONG"*) test -z "$WRONG" || { echo wrong; exit 1; } ;; esac
`
			if err := os.WriteFile(dir+"/bin/go", []byte(program), 0o755); err != nil {
				t.Fatal(err)
			}
			args := Lint()
			cmd := exec.Command(args[0], args[1], strings.ReplaceAll(args[2], "/tmp/modules", dir+"/modules"))
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"), "TOOLS="+tt.tools, "WRONG="+tt.wrong, "GOFLAGS=-mod=mod")
			out, err := cmd.CombinedOutput()
			if code := exitCode(err); code != tt.status {
				t.Fatalf("status %d, want %d: %s", code, tt.status, out)
			}
			calls, err := os.ReadFile(dir + "/calls")
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Split(strings.TrimSpace(string(calls)), "\n"); tt.want != nil && !slices.Equal(got, tt.want) {
				t.Errorf("called %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTheRaceDetectorGetsCgo(t *testing.T) {
	args, cgo := Test([]string{"./..."}, " TestA ", true)
	if want := []string{"go", "test", "-timeout", "20m", "-race", "-run", "TestA", "./..."}; !slices.Equal(args[4:], want) || cgo != "1" {
		t.Errorf("got %v, %s", args, cgo)
	}
	if _, cgo := Test(nil, "", false); cgo != "0" {
		t.Errorf("cgo is %s without the race detector", cgo)
	}
}

func TestTestsBuildWithoutAskingGitForTheCommit(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/go", []byte("#!/bin/sh\necho \"$GOFLAGS: $*\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	args, _ := Test([]string{"./a", "./b c"}, "", false)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "GOFLAGS=-mod=mod")
	out, err := cmd.CombinedOutput()
	if want := "-mod=mod -buildvcs=false: test -timeout 20m ./a ./b c\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

func FuzzCheckVersion(f *testing.F) {
	f.Add("v1.2.3")
	f.Fuzz(func(t *testing.T, v string) {
		if CheckVersion(v) == nil && strings.ContainsAny(v, " \n/'\"$;&|<>") {
			t.Errorf("%q is taken for a version", v)
		}
	})
}

func TestAnArchiveHasTheImagesOwnIndex(t *testing.T) {
	dir := t.TempDir()
	args, err := Archive(dir, "v1.0.0", dir+"/image.tar")
	if err != nil {
		t.Fatal(err)
	}
	script := `cd "$0"; mkdir -p releases/v1.0.0 oci/blobs/sha256; echo own >oci/blobs/sha256/ab12; echo all >oci/index.json
printf '{\n  "image": "sha256:ab12",\n}\n' >releases/v1.0.0/release.json`
	if out, err := exec.Command("sh", "-euc", script, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if index, err := exec.Command("tar", "-xOf", dir+"/image.tar", "./index.json").Output(); err != nil || string(index) != "own\n" {
		t.Errorf("the index is %q, %v", index, err)
	}
}

func TestARunIsTheWholeListUnderLoad(t *testing.T) {
	r := Rollout{Version: "v1.1.0", File: "deploy/shop.yaml", Args: []string{"--slow"}, URL: "http://127.0.0.1:8080/", Rate: 200}
	args, err := r.Run("/tmp/report")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"'sluice' 'run' '--version' 'v1.1.0' '-o' 'json' '--file' 'deploy/shop.yaml' '--' '--slow' >'/tmp/report/run.json'",
		"'sluice' 'load' '--rate' '200'", "sluice down",
	} {
		if !strings.Contains(args[2], want) {
			t.Errorf("no %s in %s", want, args[2])
		}
	}
	for name, change := range map[string]func(*Rollout){
		"no version": func(r *Rollout) { r.Version = "" },
		"no load":    func(r *Rollout) { r.Rate = 0 },
		"no value":   func(r *Rollout) { r.Env = []string{"=1"} },
	} {
		wrong := r
		change(&wrong)
		if _, err := wrong.Run("/tmp/report"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
