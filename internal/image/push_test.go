package image

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// recorder keeps the requests that changed something, and may answer itself.
type recorder struct {
	next      http.Handler
	intercept func(http.ResponseWriter, *http.Request) bool
	mu        sync.Mutex
	writes    []string
	auth      []string
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	intercept := r.intercept
	r.mu.Unlock()
	if intercept != nil && intercept(w, req) {
		return
	}
	r.mu.Lock()
	if req.Method == http.MethodPut || req.Method == http.MethodPatch {
		r.writes = append(r.writes, req.Method+" "+req.URL.Path)
	}
	r.auth = append(r.auth, req.Header.Get("Authorization"))
	r.mu.Unlock()
	r.next.ServeHTTP(w, req)
}

// answer lets f answer requests in the place of the registry.
func (r *recorder) answer(f func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.intercept = f
}

func (r *recorder) written() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.writes)
}

// serve starts an empty registry and returns its host:port.
func serve(t *testing.T, referrers bool) (*recorder, string) {
	t.Helper()
	quiet := registry.Logger(log.New(io.Discard, "", 0))
	r := &recorder{next: registry.New(quiet, registry.WithReferrersSupport(referrers))}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	return r, strings.TrimPrefix(server.URL, "http://")
}

func TestPush(t *testing.T) {
	for name, supported := range map[string]bool{"with the referrers API": true, "with the fallback tag": false} {
		t.Run(name, func(t *testing.T) {
			r, host := serve(t, supported)
			l := open(t, t.TempDir())
			digest := mustPublish(t, l, config(t, certificate(t, 1), "v1.0.0"))
			var done, total int64
			progress := func(d, t int64) { done, total = d, t }
			ref := host + "/team/shop:v1.0.0"
			got, err := Push(t.Context(), l, "v1.0.0", ref, PushOptions{Insecure: true, Progress: progress})
			if err != nil || got != digest {
				t.Fatalf("%s, %v; want %s", got, err, digest)
			}
			if done == 0 || done != total {
				t.Errorf("progress ended at %d of %d", done, total)
			}
			if last := r.written()[len(r.written())-1]; last != "PUT /v2/team/shop/manifests/v1.0.0" {
				t.Errorf("the last write is %s; want the tag", last)
			}
			compare(t, l, digest, ref)

			t.Run("again sends no blob", func(t *testing.T) {
				before := len(r.written())
				if _, err := Push(t.Context(), l, "v1.0.0", ref, PushOptions{Insecure: true}); err != nil {
					t.Fatal(err)
				}
				for _, w := range r.written()[before:] {
					if strings.Contains(w, "/blobs/") || strings.HasSuffix(w, "v1.0.0") {
						t.Errorf("%s", w)
					}
				}
				compare(t, l, digest, ref)
			})
		})
	}
}

// compare reads the image and all its referrers back from the registry.
func compare(t *testing.T, l *Layout, digest, ref string) {
	t.Helper()
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	h, err := index.Digest()
	if err != nil || h.String() != digest {
		t.Errorf("the registry has %s, %v; want %s", h, err, digest)
	}
	subjects := []string{digest}
	for len(subjects) > 0 {
		want, err := l.Referrers(subjects[0])
		if err != nil {
			t.Fatal(err)
		}
		there, err := remote.Referrers(tag.Context().Digest(subjects[0]))
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := there.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		var wantDigests, gotDigests []string
		for _, r := range want {
			wantDigests = append(wantDigests, r.Digest)
			subjects = append(subjects, r.Digest)
		}
		for _, m := range manifest.Manifests {
			gotDigests = append(gotDigests, m.Digest.String())
		}
		slices.Sort(wantDigests)
		slices.Sort(gotDigests)
		if diff := cmp.Diff(wantDigests, gotDigests); diff != "" {
			t.Errorf("referrers of %s (-layout +registry):\n%s", subjects[0], diff)
		}
		subjects = subjects[1:]
	}
}

func TestPushArtifact(t *testing.T) {
	_, host := serve(t, true)
	l := open(t, t.TempDir())
	digest, err := l.WriteArtifact("probe", "application/vnd.sluice.ebpf.v1", File{Name: "probe.bpf.o", Content: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Push(t.Context(), l, "probe", host+"/probe:v1", PushOptions{Insecure: true}); err != nil || got != digest {
		t.Errorf("%s, %v; want %s", got, err, digest)
	}
}

// TestPushThatIsCutOff makes the registry fail for good at every write in
// turn: no tag is set before the rest is there, and a later push completes.
func TestPushThatIsCutOff(t *testing.T) {
	l := open(t, t.TempDir())
	digest := mustPublish(t, l, config(t, certificate(t, 1), "v1.0.0"))
	for failing := 0; ; failing++ {
		r, host := serve(t, false)
		ref := host + "/shop:v1.0.0"
		var mu sync.Mutex
		count := 0
		r.answer(func(w http.ResponseWriter, req *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			if req.Method != http.MethodPut {
				return false
			}
			count++
			if count <= failing {
				return false
			}
			http.Error(w, "read-only", http.StatusForbidden)
			return true
		})
		_, err := Push(t.Context(), l, "v1.0.0", ref, PushOptions{Insecure: true, Timeout: 10 * time.Second})
		if err == nil {
			if failing < 20 {
				t.Errorf("the push needed %d writes only", failing)
			}
			break
		}
		tag, parseErr := name.NewTag(ref, name.Insecure)
		if parseErr != nil {
			t.Fatal(parseErr)
		}
		if _, err := remote.Get(tag); err == nil {
			t.Errorf("the tag is there after the failure of write %d", failing+1)
		}
		r.answer(nil)
		if _, err := Push(t.Context(), l, "v1.0.0", ref, PushOptions{Insecure: true}); err != nil {
			t.Fatal(err)
		}
		compare(t, l, digest, ref)
	}
}

func TestPushSurvivesAPassingFailure(t *testing.T) {
	r, host := serve(t, true)
	l := open(t, t.TempDir())
	mustPublish(t, l, config(t, certificate(t, 1), "v1.0.0"))
	var mu sync.Mutex
	failed := map[string]bool{}
	r.answer(func(w http.ResponseWriter, req *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if key := req.Method + req.URL.Path; req.Method == http.MethodPut && !failed[key] && len(failed) < 2 {
			failed[key] = true
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	if _, err := Push(t.Context(), l, "v1.0.0", host+"/shop:v1.0.0", PushOptions{Insecure: true}); err != nil {
		t.Error(err)
	}
	if len(failed) != 2 {
		t.Errorf("%d failures were met", len(failed))
	}
}

func TestPushErrors(t *testing.T) {
	l := open(t, t.TempDir())
	mustPublish(t, l, config(t, certificate(t, 1), "v1.0.0"))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // accepts, and never answers
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	denying := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer denying.Close()
	_, host := serve(t, true)
	for name, tt := range map[string]struct {
		ref       string
		opts      PushOptions
		want      string
		temporary bool
	}{
		"nobody listens": {closed.Addr().String() + "/shop:v1", PushOptions{Insecure: true}, closed.Addr().String(), true},
		"no answer":      {listener.Addr().String() + "/shop:v1", PushOptions{Insecure: true, Timeout: 300 * time.Millisecond}, listener.Addr().String(), true},
		"forbidden":      {strings.TrimPrefix(denying.URL, "http://") + "/shop:v1", PushOptions{Insecure: true}, "403", false},
		"plain HTTP":     {host + "/shop:v1", PushOptions{}, "plain HTTP to " + host + " is refused", false},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Push(t.Context(), l, "v1.0.0", tt.ref, tt.opts)
			var re *RegistryError
			if !errors.As(err, &re) || !strings.Contains(err.Error(), tt.want) || re.Temporary() != tt.temporary || re.Hint() == "" {
				t.Errorf("%v (temporary %v); want a RegistryError with %q and a hint", err, re != nil && re.Temporary(), tt.want)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	for name, tt := range map[string]struct{ tag, ref, want string }{
		"no host":       {"v1.0.0", "shop:v1", "want host[:port]/repository:tag"},
		"no tag":        {"v1.0.0", host + "/shop", "want host[:port]/repository:tag"},
		"another host":  {"v1.0.0", "registry.example/shop:v1", "plain HTTP to registry.example is refused"},
		"like loopback": {"v1.0.0", "localhost.example:80/shop:v1", "is refused"},
		"unknown tag":   {"v9.9.9", host + "/shop:v1", "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Push(t.Context(), l, tt.tag, tt.ref, PushOptions{Insecure: true}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v; want one with %q", err, tt.want)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		if _, err := Push(ctx, l, "v1.0.0", listener.Addr().String()+"/shop:v1", PushOptions{Insecure: true}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v; want context.Canceled", err)
		}
	})
}

func TestPushOfADamagedLayout(t *testing.T) {
	l := open(t, t.TempDir())
	mustPublish(t, l, config(t, certificate(t, 1), "v1.0.0"))
	blobs, err := filepath.Glob(filepath.Join(l.dir, "blobs", "sha256", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range blobs {
		r, host := serve(t, true)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append([]byte("x"), good[1:]...), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Push(t.Context(), l, "v1.0.0", host+"/shop:v1.0.0", PushOptions{Insecure: true}); !errors.As(err, new(*DigestError)) {
			t.Errorf("%s: %v; want DigestError", path, err)
		}
		if slices.ContainsFunc(r.written(), func(w string) bool { return strings.HasSuffix(w, "/v1.0.0") }) {
			t.Errorf("%s: the tag was set", path)
		}
		if err := os.WriteFile(path, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPushUsesTheDockerConfiguration(t *testing.T) {
	r, host := serve(t, true)
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("robot:secret"))
	r.answer(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Header.Get("Authorization") == want {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	l := open(t, t.TempDir())
	mustPublish(t, l, config(t, certificate(t, 1), "v1.0.0"))
	ref := host + "/shop:v1.0.0"
	_, err := Push(t.Context(), l, "v1.0.0", ref, PushOptions{Insecure: true})
	var re *RegistryError
	if !errors.As(err, &re) || re.Temporary() || !strings.Contains(re.Hint(), "docker login "+host) {
		t.Errorf("without credentials: %v; want an error with the hint to log in", err)
	}
	text := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("robot:secret")))
	if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Push(t.Context(), l, "v1.0.0", ref, PushOptions{Insecure: true}); err != nil {
		t.Error(err)
	}
	if len(r.auth) == 0 || slices.ContainsFunc(r.auth, func(a string) bool { return a != want }) {
		t.Errorf("credentials sent: %q", r.auth)
	}
}
