package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/image"
	"github.com/sluice-cd/sluice/internal/objects"
	"github.com/sluice-cd/sluice/internal/sign"
	"github.com/sluice-cd/sluice/internal/sign/signtest"
	"github.com/sluice-cd/sluice/internal/testenv"
	"github.com/sluice-cd/sluice/internal/wire"
)

// sluice runs a command in this process.
func sluice(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(args, &out, &errs)
	return status, out.String(), errs.String()
}

// wantStatus runs a command and compares the exit status.
func wantStatus(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	status, stdout, stderr := sluice(t, args...)
	if status != want {
		t.Fatalf("sluice %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), status, want, stdout, stderr)
	}
	return stdout, stderr
}

// signed is the built-in object in a folder, as "sluice bpf sign --new-key" signs
// it: by ours, and by a stranger. Opening a key takes seconds under the race
// detector, so every test has a copy of the same files.
var signed = struct{ ours, stranger func() (fs.FS, error) }{sync.OnceValues(signAnew), sync.OnceValues(signAnew)}

func signAnew() (fs.FS, error) {
	dir, err := os.MkdirTemp("", "sluice")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	object := filepath.Join(dir, "probe.bpf.o")
	if err := os.WriteFile(object, probe.Object(), 0o644); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if status := run([]string{"bpf", "sign", object, "--new-key", filepath.Join(dir, "keys")}, &out, &out); status != 0 {
		return nil, fmt.Errorf("signing ends with %d: %s", status, &out)
	}
	files := fstest.MapFS{}
	err = fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(filepath.Join(dir, path))
		files[path] = &fstest.MapFile{Data: raw, Mode: 0o600}
		return err
	})
	return files, err
}

// signedProbe is the built-in object in a file of the test's, and the public key
// of who signed it.
func signedProbe(t *testing.T, by func() (fs.FS, error)) (object, key string) {
	t.Helper()
	t.Setenv(passphraseVariable, "")
	files, err := by()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "probe.bpf.o"), filepath.Join(dir, "keys", sign.PubFile)
}

// TestBPFToolsAreThere fails in CI where the scripts bpf_*.txtar could not run.
func TestBPFToolsAreThere(t *testing.T) {
	testenv.Need(t, bpfCompiler)
	testenv.Need(t, bpfStrip)
}

// TestBPFBuildMakesTheCommittedObjects compiles as go generate does.
func TestBPFBuildMakesTheCommittedObjects(t *testing.T) {
	testenv.Need(t, bpfCompiler)
	to := filepath.Join(t.TempDir(), "mover.o")
	wantStatus(t, 0, "bpf", "build", "../../bpf/bind/bind.bpf.c", "-I", "../../bpf/include", "--to", to)
	got, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../../bpf/bind/mover_bpfel.o")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the object has %d bytes and digest %s, committed are %d and %s", len(got), bpf.DigestOf(got), len(want), bpf.DigestOf(want))
	}
}

func TestBPFVerifyByIdentity(t *testing.T) {
	dir := t.TempDir()
	service, stranger := signtest.New(t), signtest.New(t)
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	object := file("probe.bpf.o", probe.Object())
	file("probe.bpf.o.sigstore.json", service.Sign("release@acme.test", "https://issuer.test", probe.Object()))
	root, foreign := file("root.json", service.TrustedRoot()), file("foreign.json", stranger.TrustedRoot())
	demand := func(who, issuer, root string) []string {
		return []string{"bpf", "verify", object, "--certificate-identity", who, "--certificate-oidc-issuer", issuer, "--trusted-root", root}
	}
	stdout, _ := wantStatus(t, 0, demand("release@acme.test", "https://issuer.test", root)...)
	if !strings.Contains(stdout, "signed by release@acme.test (https://issuer.test)") || !strings.Contains(stdout, string(bpf.DigestOf(probe.Object()))) {
		t.Errorf("it says %q", stdout)
	}
	stdout, _ = wantStatus(t, 0, append(demand("release@acme.test", "https://issuer.test", root), "--quiet", "-o", "digest")...)
	if stdout != string(bpf.DigestOf(probe.Object()))+"\n" {
		t.Errorf("the digest alone is %q", stdout)
	}
	wantStatus(t, 5, demand("eve@acme.test", "https://issuer.test", root)...)
	wantStatus(t, 5, demand("release@acme.test", "https://other.test", root)...)
	wantStatus(t, 5, demand("release@acme.test", "https://issuer.test", foreign)...)
	wantStatus(t, 2, demand("release@acme.test", "", root)...)
}

func TestBPFThroughARegistry(t *testing.T) {
	object, key := signedProbe(t, signed.ours)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	defer server.Close()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	ref := strings.TrimPrefix(server.URL, "http://") + "/team/probe:v1"
	for _, layout := range []string{"bpfman", "gadget"} {
		to := filepath.Join(t.TempDir(), "pulled.o")
		wantStatus(t, 0, "bpf", "push", object, ref, "--insecure", "--layout", layout)
		stdout, _ := wantStatus(t, 0, "bpf", "pull", ref, "--insecure", "--key", key, "--to", to, "-o", "json")
		var report pullReport
		if err := json.Unmarshal([]byte(stdout), &report); err != nil || report.Layout != layout || report.Digest != bpf.DigestOf(probe.Object()) {
			t.Errorf("%s, %v", stdout, err)
		}
		got, err := os.ReadFile(to)
		if err != nil || !bytes.Equal(got, probe.Object()) {
			t.Errorf("%s: what comes back is not what was pushed (%v)", layout, err)
		}
		wantStatus(t, 0, "bpf", "verify", to, "--key", key)
	}
	// The image is signed for those who verify images; the object still comes back.
	private := filepath.Join(filepath.Dir(key), sign.KeyFile)
	wantStatus(t, 0, "bpf", "push", object, ref, "--insecure", "--image-key", private)
	stored, err := image.PullEBPF(t.Context(), ref, runtime.GOARCH, image.PullOptions{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	v, err := sign.OpenVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	vouched := 0
	for _, b := range stored.Bundles {
		if _, err := v.Attestation(b, strings.TrimPrefix(stored.Digest, "sha256:"), sign.PredicateImage); err == nil {
			vouched++
		}
	}
	if len(stored.Bundles) != 2 || vouched != 1 {
		t.Errorf("%d bundles, %d for the image, want 2 and 1", len(stored.Bundles), vouched)
	}
	wantStatus(t, 0, "bpf", "pull", ref, "--insecure", "--key", key, "--to", filepath.Join(t.TempDir(), "pulled.o"))

	_, other := signedProbe(t, signed.stranger)
	to := filepath.Join(t.TempDir(), "refused.o")
	wantStatus(t, 5, "bpf", "pull", ref, "--insecure", "--key", other, "--to", to)
	if exists(to) || exists(to+".sigstore.json") {
		t.Error("something was written that is signed by nobody known")
	}
	_, stderr := wantStatus(t, 2, "bpf", "pull", ref, "--key", key, "--to", to)
	if !strings.Contains(stderr, "hint: set insecure") {
		t.Errorf("plain HTTP unasked: %s", stderr)
	}
}

// fakeProbe answers on a Unix socket as a sluice-probe does.
type fakeProbe struct {
	target  string
	got     wire.SwapRequest
	refuse  int // HTTP status of the answer to POST
	objects wire.Objects
}

func newFakeProbe(t *testing.T) *fakeProbe {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "p.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	p := &fakeProbe{target: "unix:" + socket}
	p.objects.Loaded = bpf.Loaded{Digest: "sha256:" + bpf.Digest(strings.Repeat("a", 64))}
	server := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return p
}

func (p *fakeProbe) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	switch {
	case r.Method == http.MethodGet && r.URL.Path == wire.PathObjects:
		answer(p.objects)
	case p.refuse != 0:
		wire.WriteError(w, p.refuse, &advised{io.ErrUnexpectedEOF, "try something else"})
	case r.URL.Path == wire.PathObjects:
		_ = json.NewDecoder(r.Body).Decode(&p.got)
		answer(wire.SwapResult{Digest: p.got.Digest, Previous: p.objects.Loaded.Digest, Took: 300 * time.Microsecond})
	case r.URL.Path == wire.PathRollback:
		answer(wire.SwapResult{Digest: p.objects.History[0].Digest, Previous: p.objects.Loaded.Digest})
	}
}

func TestBPFLoadsIntoAProbe(t *testing.T) {
	p := newFakeProbe(t)
	object, key := signedProbe(t, signed.ours)
	layout := "oci:" + filepath.Join(t.TempDir(), "oci") + ":v1"
	wantStatus(t, 0, "bpf", "push", object, layout)

	stdout, _ := wantStatus(t, 0, "bpf", "load", object, "--probe", p.target, "--dry-run")
	says := "would replace " + string(p.objects.Loaded.Digest) + " by " + string(bpf.DigestOf(probe.Object())) + ": signature, rules and layout are right, and the probe's kernel has verified it\n"
	if !p.got.DryRun || !bytes.Equal(p.got.Object, probe.Object()) || stdout != says {
		t.Errorf("with --dry-run: %q, the probe was asked for one: %v", stdout, p.got.DryRun)
	}
	for _, force := range []bool{true, false} {
		p.got = wire.SwapRequest{}
		wantStatus(t, 0, "bpf", "load", object, "--probe", p.target, fmt.Sprint("--force=", force))
		if p.got.Force != force || p.got.DryRun {
			t.Errorf("the probe was asked with force=%v, dry run %v", p.got.Force, p.got.DryRun)
		}
	}
	for name, args := range map[string][]string{
		"a file":                  {object},
		"a file that is verified": {object, "--key", key},
		"an image in a layout":    {layout, "--key", key},
	} {
		p.got = wire.SwapRequest{}
		stdout, _ := wantStatus(t, 0, append([]string{"bpf", "load", "--probe", p.target}, args...)...)
		if !bytes.Equal(p.got.Object, probe.Object()) || len(p.got.Bundle) == 0 || !strings.Contains(stdout, "replaced in 300µs") {
			t.Errorf("%s: the probe got %d bytes; %q", name, len(p.got.Object), stdout)
		}
	}
	p.got = wire.SwapRequest{}
	_, stranger := signedProbe(t, signed.stranger)
	wantStatus(t, 5, "bpf", "load", object, "--key", stranger, "--probe", p.target)
	wantStatus(t, 2, "bpf", "load", layout, "--probe", p.target) // an image is always verified
	if p.got.Object != nil {
		t.Error("the probe got an object that was refused here")
	}
	for answer, want := range map[int]int{403: 5, 409: 1, 422: 1, 503: 6, 500: 2} {
		p.refuse = answer
		_, stderr := wantStatus(t, want, "bpf", "load", object, "--probe", p.target)
		if !strings.Contains(stderr, "hint: try something else") {
			t.Errorf("HTTP %d: %s", answer, stderr)
		}
	}
	_, stderr := wantStatus(t, 2, "bpf", "list", "--probe", "unix:/nonexistent/p.sock")
	if !strings.Contains(stderr, "hint: is sluice-probe running?") {
		t.Errorf("no probe: %s", stderr)
	}
}

// TestBPFWithARealProbe lets a real, confined sluice-probe take an object and go
// back.
func TestBPFWithARealProbe(t *testing.T) {
	group := testenv.TempCgroup(t)
	dir, err := os.MkdirTemp("", "sluice") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	binary, target, history := filepath.Join(dir, "sluice-probe"), "unix:"+filepath.Join(dir, "p.sock"), "dir:"+filepath.Join(dir, "history")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../sluice-probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	object, key := signedProbe(t, signed.ours)
	another := filepath.Join(dir, "another.o") // the same programs, other bytes
	if err := os.WriteFile(another, append(probe.Object(), 0), 0o644); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, 0, "bpf", "sign", another, "--key", filepath.Join(filepath.Dir(object), "keys", sign.KeyFile))
	daemon := exec.Command(binary, "--cgroup", group, "--pin", "none", "--listen", target, "--history", history, "--key", key, "--node", "node-1")
	daemon.Stderr = t.Output()
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		_ = daemon.Wait()
	}()
	running := func(want []byte) {
		t.Helper()
		deadline := time.Now().Add(patience)
		for {
			status, stdout, stderr := sluice(t, "bpf", "list", "--probe", target)
			if status == 0 && strings.Contains(stdout, string(bpf.DigestOf(want))) && strings.Contains(stdout, group) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not run: %s%s", bpf.DigestOf(want), stdout, stderr)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	running(probe.Object())
	wantStatus(t, 0, "bpf", "load", another, "--probe", target)
	running(append(probe.Object(), 0))
	wantStatus(t, 0, "bpf", "rollback", "--probe", target)
	running(probe.Object())
	stdout, _ := wantStatus(t, 0, "bpf", "history", "--history", history)
	if !strings.Contains(stdout, string(bpf.DigestOf(append(probe.Object(), 0)))+"  not known to be good") {
		t.Error(stdout)
	}
	for _, again := range [][]string{{"load", another}, {"load", another, "--dry-run"}} {
		_, stderr := wantStatus(t, 1, append(append([]string{"bpf"}, again...), "--probe", target)...)
		if !strings.Contains(stderr, "was found bad: rolled back by hand\nsluice: hint: sluice bpf history says") {
			t.Errorf("%v: %s", again, stderr)
		}
	}
	stdout, _ = wantStatus(t, 0, "bpf", "load", another, "--force", "--dry-run", "--probe", target)
	if !strings.HasPrefix(stdout, "would replace "+string(bpf.DigestOf(probe.Object()))+" by ") {
		t.Error(stdout)
	}
	running(probe.Object())
	wantStatus(t, 0, "bpf", "swap", string(bpf.DigestOf(append(probe.Object(), 0))), "--force", "--history", history, "--probe", target)
	running(append(probe.Object(), 0))
	strangers, _ := signedProbe(t, signed.stranger)
	_, stderr := wantStatus(t, 5, "bpf", "load", strangers, "--probe", target)
	if !strings.Contains(stderr, "signed by key") {
		t.Error(stderr)
	}
	running(append(probe.Object(), 0))
}

func TestBPFListAndRollback(t *testing.T) {
	p := newFakeProbe(t)
	_, stderr := wantStatus(t, 1, "bpf", "rollback", "--dry-run", "--probe", p.target)
	if !strings.Contains(stderr, "no good object") {
		t.Error(stderr)
	}
	good := "sha256:" + bpf.Digest(strings.Repeat("b", 64))
	p.objects.Loaded.Programs = []bpf.LoadedProgram{{Name: "ingress", ID: 7, Tag: "00ff", AttachedTo: "/group"}}
	p.objects.History = []wire.Object{{Digest: good, Good: true, Signed: true}, {Digest: p.objects.Loaded.Digest, Bad: "it is slow"}}
	stdout, _ := wantStatus(t, 0, "bpf", "rollback", "--dry-run", "--probe", p.target)
	if !strings.Contains(stdout, "the last good object, "+string(good)) {
		t.Error(stdout)
	}
	stdout, _ = wantStatus(t, 0, "bpf", "rollback", "--probe", p.target)
	if !strings.Contains(stdout, "running  "+string(good)) {
		t.Error(stdout)
	}
	stdout, _ = wantStatus(t, 0, "bpf", "list", "--probe", p.target)
	if !strings.Contains(stdout, "ingress  7   00ff") {
		t.Error(stdout)
	}
	stdout, _ = wantStatus(t, 0, "bpf", "history", "--probe", p.target)
	if !strings.Contains(stdout, string(good)+"  yes     good") || !strings.Contains(stdout, "running") {
		t.Error(stdout)
	}
}

func TestBPFHistoryInADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	wantStatus(t, 2, "bpf", "history", "--history", "dir:"+dir)
	if exists(dir) {
		t.Error("asking for a history makes one")
	}
	wantStatus(t, 2, "bpf", "history", "--history", "file:"+dir)
	h, err := objects.Dir(dir, "node-1")
	if err != nil {
		t.Fatal(err)
	}
	object, _ := signedProbe(t, signed.ours)
	bundle, err := os.ReadFile(object + ".sigstore.json")
	if err != nil {
		t.Fatal(err)
	}
	digest, err := h.Put(t.Context(), probe.Object(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	p := newFakeProbe(t)
	swap := []string{"bpf", "swap", string(digest[:20]), "--history", "dir:" + dir, "--probe", p.target}
	wantStatus(t, 0, append(swap, "--dry-run")...)
	wantStatus(t, 0, swap...)
	if p.got.Digest != digest {
		t.Errorf("the probe got %q", p.got.Digest)
	}
	if err := h.MarkBad(t.Context(), digest, "too many retransmits"); err != nil {
		t.Fatal(err)
	}
	stdout, _ := wantStatus(t, 0, "bpf", "history", "--history", "dir:"+dir)
	if !strings.Contains(stdout, string(digest)+"  not known to be good") || !strings.Contains(stdout, "bad     node-1  too many retransmits") {
		t.Error(stdout)
	}
	_, stderr := wantStatus(t, 1, swap...)
	if !strings.Contains(stderr, "--force") {
		t.Error(stderr)
	}
	wantStatus(t, 0, append(swap, "--force")...)
	wantStatus(t, 2, "bpf", "swap", "ffff", "--history", "dir:"+dir, "--probe", p.target)
	stdout, _ = wantStatus(t, 0, "bpf", "history", "--history", "dir:"+dir, "-o", "json")
	var list []objects.Entry
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || len(list) != 1 || len(list[0].Events) != 2 {
		t.Errorf("%v: %s", err, stdout)
	}
}

func TestSnakeCase(t *testing.T) {
	for in, want := range map[string]string{
		"CGroupSKB": "cgroup_skb", "SockOps": "sock_ops", "PerCPUArray": "per_cpu_array", "LRUHash": "lru_hash",
		"RingBuf": "ring_buf", "SkStorage": "sk_storage", "Array": "array", "XDP": "xdp", "LPMTrie": "lpm_trie",
	} {
		if got := snakeCase(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// TestBPFHelpShowsExamples: every command has a worked example.
func TestBPFHelpShowsExamples(t *testing.T) {
	for _, cmd := range bpfCommand().Commands() {
		if !strings.Contains(cmd.Example, "sluice bpf "+cmd.Name()) || cmd.Long == "" || cmd.Short == "" {
			t.Errorf("sluice bpf %s lacks an example or an explanation", cmd.Name())
		}
	}
}
