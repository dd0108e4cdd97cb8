package admit_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/admit"
	"github.com/sluice-cd/sluice/internal/image"
	"github.com/sluice-cd/sluice/internal/sign"
)

func TestWhatWasPublishedIsAdmitted(t *testing.T) {
	for name, referrers := range map[string]bool{"with the referrers API": true, "with the fallback tag": false} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, referrers)
			ref := l.push(l.layout(), "v1.2.0")
			demands := l.demands()
			demands.Running = "v1.1.0"
			got, err := admit.Image(t.Context(), ref, demands)
			if err != nil {
				t.Fatal(err)
			}
			_, digest, _ := strings.Cut(ref, "@")
			want := admit.Evidence{
				Digest: digest, Name: "hello", Version: "v1.2.0", Commit: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
				Object: bpf.DigestOf(probe.Object()), Platforms: []string{"linux/amd64", "linux/arm64"},
				Manifest: got.Manifest, Release: got.Release,
				Checked: []string{
					"signature", "release manifest", "provenance for linux/amd64", "SBOM for linux/amd64",
					"provenance for linux/arm64", "SBOM for linux/arm64", "SBOM of the eBPF object", "rules",
				},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			manifest, err := os.ReadFile(filepath.Join(l.out, "releases", "v1.2.0", "release.json"))
			if err != nil {
				t.Fatal(err)
			}
			if want := string(bpf.DigestOf(manifest)); got.Manifest != want {
				t.Errorf("manifest %s, want %s", got.Manifest, want)
			}
		})
	}
}

// wrong is an image that is not admitted, and what is said of it.
type wrong struct {
	push      func(l *lab) string // returns the reference; nil: what was published
	demand    func(l *lab, d *admit.Demands)
	problem   admit.Problem
	text      string
	signature bool
}

// badlySigned are images for which nobody vouches, or somebody else.
func badlySigned() map[string]wrong {
	about := func(part string) func(a attachment) bool {
		return func(a attachment) bool { return strings.Contains(a.name, part) }
	}
	without := func(part string) func(*lab) string {
		return func(l *lab) string {
			return l.push(l.changed("v1.2.0", func(a attachment) []attachment {
				if about(part)(a) {
					return nil
				}
				return []attachment{a}
			}), "v1.2.0")
		}
	}
	return map[string]wrong{
		"nothing is attached": {
			push: func(l *lab) string {
				return l.push(l.changed("v1.2.0", func(attachment) []attachment { return nil }), "v1.2.0")
			},
			problem: admit.Unsigned, text: "signature: there is none", signature: true,
		},
		"everything but the signature is": {push: without("image.sigstore"), problem: admit.Unsigned, text: "signature: there is none", signature: true},
		"no provenance":                   {push: without("provenance"), problem: admit.Unsigned, text: "provenance for linux/amd64", signature: true},
		"no release manifest":             {push: without("release.intoto"), problem: admit.Unsigned, text: "release manifest", signature: true},
		"no SBOM of one platform":         {push: without("linux_arm64.cdx"), problem: admit.Unsigned, text: "SBOM for linux/arm64", signature: true},
		"no SBOM of the eBPF object":      {push: without("probe.cdx"), problem: admit.Unsigned, text: "SBOM of the eBPF object", signature: true},
		"signed by another key": {
			demand:  func(l *lab, d *admit.Demands) { d.Verifiers = []*sign.Verifier{stranger(l)} },
			problem: admit.Foreign, text: "signature: ", signature: true,
		},
		"nobody may sign": {
			demand:  func(_ *lab, d *admit.Demands) { d.Verifiers = nil },
			problem: admit.Foreign, text: "nobody was named", signature: true,
		},
		"the SBOM of another image": {
			push: func(l *lab) string {
				index, err := l.layout().Image("v1.2.0")
				l.must(err)
				platforms := l.platforms(index)
				return l.push(l.changed("v1.2.0", func(a attachment) []attachment {
					if about("linux_arm64.cdx")(a) {
						return nil
					}
					if about("linux_amd64.cdx")(a) {
						return []attachment{a, {platforms[1], a.name, a.content}}
					}
					return []attachment{a}
				}), "v1.2.0")
			},
			problem: admit.Unrelated, text: "SBOM for linux/arm64", signature: true,
		},
		"a signature that was altered": {
			push: func(l *lab) string {
				return l.push(l.changed("v1.2.0", func(a attachment) []attachment {
					if about("image.sigstore")(a) {
						at := bytes.Index(a.content, []byte(`"sig":"`)) + 40
						a.content[at] = map[bool]byte{true: 'B', false: 'A'}[a.content[at] == 'A']
					}
					return []attachment{a}
				}), "v1.2.0")
			},
			problem: admit.Foreign, text: "signature: ", signature: true,
		},
		"the tag was moved": {
			push: func(l *lab) string {
				ref := l.push(l.layout(), "v1.2.0")
				_, err := image.Push(l.t.Context(), l.layout(), "v1.3.0", l.host+"/team/hello:v1.2.0", image.PushOptions{Insecure: true})
				l.must(err)
				return ref
			},
			problem: admit.Moved, text: "the tag v1.2.0 is sha256:", signature: true,
		},
		"a tag that is not there": {
			push: func(l *lab) string {
				return strings.Replace(l.push(l.layout(), "v1.2.0"), ":v1.2.0@", ":v9.9.9@", 1)
			},
			problem: admit.Moved, text: "no tag v9.9.9", signature: true,
		},
	}
}

// badlyReleased are images that are signed, and may not run all the same.
func badlyReleased() map[string]wrong {
	return map[string]wrong{
		"another release under the tag": {
			push: func(l *lab) string {
				digest, err := image.Push(l.t.Context(), l.layout(), "v1.3.0", l.host+"/team/hello:v1.2.0", image.PushOptions{Insecure: true})
				l.must(err)
				return l.host + "/team/hello:v1.2.0@" + digest
			},
			problem: admit.Release, text: "it is of version v1.3.0, the image is tagged v1.2.0",
		},
		"a release of another service": {
			demand:  func(_ *lab, d *admit.Demands) { d.Name = "goodbye" },
			problem: admit.Release, text: `it is of "hello", expected "goodbye"`,
		},
		"no digest": {
			push:    func(l *lab) string { ref, _, _ := strings.Cut(l.push(l.layout(), "v1.2.0"), "@"); return ref },
			problem: admit.Reference, text: "names no digest",
		},
		"no tag": {
			push:    func(l *lab) string { return strings.Replace(l.push(l.layout(), "v1.2.0"), ":v1.2.0@", "@", 1) },
			problem: admit.Reference, text: "names no tag",
		},
		"half a digest": {
			push:    func(l *lab) string { return l.host + "/team/hello:v1.2.0@sha256:abcd" },
			problem: admit.Reference, text: "sha256:abcd",
		},
		"a newer version runs": {
			demand:  func(_ *lab, d *admit.Demands) { d.Running = "v2.0.0" },
			problem: admit.Denied, text: "denied: version_newer: version v1.2.0 is not newer than v2.0.0",
		},
		"a package is denied": {
			demand:  func(_ *lab, d *admit.Demands) { d.Policy.DeniedPackages = []string{"stdlib"} },
			problem: admit.Denied, text: "denied: denied_package",
		},
		"the program is too large": {
			demand:  func(_ *lab, d *admit.Demands) { d.BudgetBytes = 1000 },
			problem: admit.Denied, text: "over the budget of 1000",
		},
		"a rule of the user's": {
			demand: func(l *lab, d *admit.Demands) {
				dir := l.t.TempDir()
				l.must(os.WriteFile(filepath.Join(dir, "four.rego"), []byte(fourPlatforms), 0o644))
				d.Policy.Dirs = []string{dir}
			},
			problem: admit.Denied, text: "four platforms",
		},
	}
}

func TestWhatIsWrongWithAnImageIsSaid(t *testing.T) {
	all := badlySigned()
	maps.Copy(all, badlyReleased())
	for name, tt := range all {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, true)
			ref := ""
			if tt.push != nil {
				ref = tt.push(l)
			} else {
				ref = l.push(l.layout(), "v1.2.0")
			}
			demands := l.demands()
			if tt.demand != nil {
				tt.demand(l, &demands)
			}
			_, err := admit.Image(t.Context(), ref, demands)
			var refused *admit.Error
			if !errors.As(err, &refused) {
				t.Fatalf("%v, want an *Error", err)
			}
			if refused.Problem != tt.problem || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%s: %v; want %s: … %s", refused.Problem, err, tt.problem, tt.text)
			}
			if refused.Signature() != tt.signature {
				t.Errorf("signature %v, want %v", refused.Signature(), tt.signature)
			}
			if refused.Hint() == "" {
				t.Error("no hint")
			}
		})
	}
}

func TestRulesWithoutAnAnswerSayNothingAboutTheImage(t *testing.T) {
	for name, rule := range map[string]string{
		"rules that do not compile": "package sluice.broken\n\ndeny contains {\n",
		"a rule without an answer":  "package sluice.broken\n\ndeny := 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, true)
			ref, demands := l.push(l.layout(), "v1.2.0"), l.demands()
			demands.Policy.Dirs = []string{t.TempDir()}
			l.must(os.WriteFile(filepath.Join(demands.Policy.Dirs[0], "broken.rego"), []byte(rule), 0o644))
			_, err := admit.Image(t.Context(), ref, demands)
			var refused *admit.Error
			var unknown *admit.RulesError
			if errors.As(err, &refused) || !errors.As(err, &unknown) {
				t.Fatalf("%v, want a *RulesError", err)
			}
			if !strings.Contains(err.Error(), "broken") || unknown.Hint() == "" {
				t.Errorf("%v; hint %q", err, unknown.Hint())
			}
		})
	}
}

const fourPlatforms = `package sluice.four

deny contains {"message": "fewer than four platforms", "input": "artifacts", "fix": "build more"} if count(input.artifacts) < 4
`

// stranger verifies signatures by a key that signed nothing.
func stranger(l *lab) *sign.Verifier {
	_, public, err := sign.GenerateKey(l.t.TempDir(), nil)
	l.must(err)
	v, err := sign.OpenVerifier(public)
	l.must(err)
	return v
}

func TestOneOfTwoKeysIsEnough(t *testing.T) {
	l := newLab(t, true)
	demands := l.demands()
	demands.Verifiers = []*sign.Verifier{stranger(l), l.verifier()}
	if _, err := admit.Image(t.Context(), l.push(l.layout(), "v1.2.0"), demands); err != nil {
		t.Error(err)
	}
}

// Any of these could be what somebody changed in a registry: each blob and each
// manifest of the image, one after the other.
func TestNothingThatARegistryChangesIsNotNoticed(t *testing.T) {
	l := newLab(t, true)
	ref := l.push(l.layout(), "v1.2.0")
	var asked []string
	l.handler = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/sha256:") && !strings.Contains(r.URL.Path, "/referrers/") && r.Method == http.MethodGet && !slices.Contains(asked, r.URL.Path) {
			asked = append(asked, r.URL.Path)
		}
		return false
	}
	if _, err := admit.Image(t.Context(), ref, l.demands()); err != nil {
		t.Fatal(err)
	}
	if len(asked) < 10 {
		t.Fatalf("only %d things were read", len(asked))
	}
	real := l.server.Config.Handler
	for _, path := range asked {
		l.handler = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != path || r.Method != http.MethodGet {
				return false
			}
			l.handler = nil
			answer := httptest.NewRecorder()
			real.ServeHTTP(answer, r)
			body := answer.Body.Bytes()
			body[len(body)/2] ^= 1
			for name, values := range answer.Header() {
				w.Header()[name] = values
			}
			_, _ = w.Write(body)
			return true
		}
		_, err := admit.Image(t.Context(), ref, l.demands())
		var refused *admit.Error
		if !errors.As(err, &refused) || refused.Problem != admit.Damaged || !refused.Signature() {
			t.Errorf("%s: %v, want it to be damaged", path, err)
		}
	}
}

func TestARegistryThatDoesNotAnswerIsNoVerdict(t *testing.T) {
	refuse := func(status int) func(*lab) string {
		return func(l *lab) string {
			ref := l.push(l.layout(), "v1.2.0")
			l.handler = func(w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(status)
				_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"not you"}]}`)
				return true
			}
			return ref
		}
	}
	for name, tt := range map[string]struct {
		ref                          func(*lab) string
		refused, absent, temporarily bool
		text                         string
	}{
		"it is down": {
			ref:         func(l *lab) string { ref := l.push(l.layout(), "v1.2.0"); l.server.Close(); return ref },
			temporarily: true, text: "could not be asked",
		},
		"it is overloaded":        {ref: refuse(http.StatusServiceUnavailable), temporarily: true, text: "could not be asked"},
		"it wants a login":        {ref: refuse(http.StatusUnauthorized), refused: true, text: "does not let us read"},
		"it does not want us":     {ref: refuse(http.StatusForbidden), refused: true, text: "does not let us read"},
		"it has no such image":    {ref: func(l *lab) string { return l.host + "/team/hello:v1.2.0@" + string(bpf.DigestOf(nil)) }, absent: true, text: "the registry has no"},
		"it has no such platform": {ref: missingPart, absent: true, text: "the registry has no"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, true)
			_, err := admit.Image(t.Context(), tt.ref(l), l.demands())
			var unknown *admit.RegistryError
			if !errors.As(err, &unknown) || errors.As(err, new(*admit.Error)) {
				t.Fatalf("%v, want a *RegistryError", err)
			}
			if unknown.Refused() != tt.refused || unknown.Absent() != tt.absent || unknown.Temporary() != tt.temporarily {
				t.Errorf("refused %v, absent %v, temporary %v", unknown.Refused(), unknown.Absent(), unknown.Temporary())
			}
			if !strings.Contains(err.Error(), tt.text) || unknown.Hint() == "" {
				t.Errorf("%v (%s), want … %s", err, unknown.Hint(), tt.text)
			}
		})
	}
}

// missingPart is a release of which the registry lost the image of a platform.
func missingPart(l *lab) string {
	ref := l.push(l.layout(), "v1.2.0")
	index, err := l.layout().Image("v1.2.0")
	l.must(err)
	lost := l.platforms(index)[1]
	l.handler = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/manifests/"+lost) {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	}
	return ref
}

func TestPlainHTTPIsRefusedUnlessItIsAskedFor(t *testing.T) {
	l := newLab(t, true)
	ref := l.push(l.layout(), "v1.2.0")
	demands := l.demands()
	demands.Insecure = false
	_, err := admit.Image(t.Context(), ref, demands)
	var unknown *admit.RegistryError
	if !errors.As(err, &unknown) || !strings.Contains(unknown.Hint(), "insecure") {
		t.Errorf("%v, want a hint at insecure", err)
	}
}
