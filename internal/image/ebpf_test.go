package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func probeObject() EBPF {
	return EBPF{
		Name: "probe.bpf.o", Description: "counts requests", Object: []byte("\x7fELF and the rest of it"),
		Programs: map[string]string{"ingress": "cgroup_skb", "connection": "sock_ops"},
		Maps:     map[string]string{"slots": "per_cpu_array"},
	}
}

// publishEBPF writes an image of the object with a bundle into a new layout.
func publishEBPF(t *testing.T, e EBPF, layout string, bundles ...string) (*Layout, string) {
	t.Helper()
	img, err := e.Image(layout)
	if err != nil {
		t.Fatal(err)
	}
	l, err := OpenLayout(filepath.Join(t.TempDir(), "oci"))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := l.Write(img, "v1")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bundles {
		if _, err := l.AttachBundle(digest, []byte(b)); err != nil {
			t.Fatal(err)
		}
	}
	return l, digest
}

func TestEBPFRoundTrip(t *testing.T) {
	for _, layout := range []string{LayoutBPFMan, LayoutGadget} {
		for name, referrersAPI := range map[string]bool{"referrers API": true, "fallback tag": false} {
			t.Run(layout+" with the "+name, func(t *testing.T) {
				e := probeObject()
				l, digest := publishEBPF(t, e, layout, `{"first":1}`, `{"second":2}`)
				_, host := serve(t, referrersAPI)
				if got, err := Push(t.Context(), l, "v1", host+"/probe:v1", PushOptions{Insecure: true}); err != nil || got != digest {
					t.Fatal(got, err)
				}
				want := StoredEBPF{EBPF: e, Layout: layout, Digest: digest, Bundles: [][]byte{[]byte(`{"first":1}`), []byte(`{"second":2}`)}}
				if layout == LayoutGadget { // has no place for these
					want.Programs, want.Maps, want.Description = nil, nil, ""
				}
				for _, arch := range []string{"amd64", "arm64"} {
					got, err := l.ReadEBPF("v1", arch)
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Error("from the layout:", diff)
					}
					for _, ref := range []string{host + "/probe:v1", host + "/probe@" + digest} {
						got, err := PullEBPF(t.Context(), ref, arch, PullOptions{Insecure: true})
						if err != nil {
							t.Fatal(err)
						}
						if bytes.Compare(got.Bundles[0], got.Bundles[1]) > 0 { // a registry may list them in any order
							got.Bundles[0], got.Bundles[1] = got.Bundles[1], got.Bundles[0]
						}
						if diff := cmp.Diff(want, got); diff != "" {
							t.Error("from the registry:", diff)
						}
					}
				}
				if err := l.Verify(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestEBPFImagesAreAsOthersReadThem(t *testing.T) {
	e := probeObject()
	for layout, want := range map[string]v1.Manifest{
		LayoutBPFMan: {
			MediaType: types.OCIManifestSchema1,
			Config:    v1.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json"},
			Layers:    []v1.Descriptor{{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip"}},
		},
		LayoutGadget: {
			MediaType:    types.OCIManifestSchema1,
			ArtifactType: "application/vnd.gadget.v1+binary",
			Config:       v1.Descriptor{MediaType: "application/vnd.gadget.config.v1+yaml"},
			Layers:       []v1.Descriptor{{MediaType: "application/vnd.gadget.ebpf.program.v1+binary", Digest: hashOf(e.Object)}},
			Annotations:  map[string]string{"org.opencontainers.image.title": "probe.bpf.o", "org.opencontainers.image.description": "counts requests"},
		},
	} {
		index, err := e.Image(layout)
		if err != nil {
			t.Fatal(err)
		}
		again, err := e.Image(layout)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := mustDigest(t, index), mustDigest(t, again); a != b {
			t.Errorf("%s: made twice, the digests are %s and %s", layout, a, b)
		}
		for _, arch := range []string{"amd64", "arm64"} {
			img, err := forArch(index, arch)
			if err != nil {
				t.Fatal(err)
			}
			got, err := img.Manifest()
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Layers) != 1 || got.MediaType != want.MediaType || got.ArtifactType != want.ArtifactType || got.Config.MediaType != want.Config.MediaType ||
				got.Layers[0].MediaType != want.Layers[0].MediaType || !cmp.Equal(got.Annotations, want.Annotations) {
				t.Errorf("%s, %s: %+v, want %+v", layout, arch, got, want)
			}
			if layout == LayoutGadget && got.Layers[0].Digest != want.Layers[0].Digest {
				t.Errorf("%s: the layer is not the object", layout)
			}
			if layout == LayoutBPFMan {
				if err := validate.Image(img); err != nil {
					t.Errorf("%s, %s: %v", layout, arch, err)
				}
				config, err := img.ConfigFile()
				if err != nil {
					t.Fatal(err)
				}
				var programs map[string]string
				if err := json.Unmarshal([]byte(config.Config.Labels["io.ebpf.programs"]), &programs); err != nil || !cmp.Equal(programs, e.Programs) ||
					config.Architecture != arch || config.Config.Labels["io.ebpf.filename"] != "probe.bpf.o" {
					t.Errorf("%+v, %v", config, err)
				}
			}
		}
	}
}

func mustDigest(t *testing.T, index v1.ImageIndex) v1.Hash {
	t.Helper()
	h, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestWhatIsNoEBPFObjectIsNotPacked(t *testing.T) {
	for name, change := range map[string]func(*EBPF){
		"a path for a name": func(e *EBPF) { e.Name = "../probe.o" },
		"no name":           func(e *EBPF) { e.Name = "" },
		"a hidden file":     func(e *EBPF) { e.Name = ".probe.o" },
		"no ELF":            func(e *EBPF) { e.Object = []byte("#!/bin/sh") },
		"too large":         func(e *EBPF) { e.Object = append([]byte("\x7fELF"), make([]byte, maxEBPF)...) },
	} {
		e := probeObject()
		change(&e)
		if _, err := e.Image(LayoutBPFMan); err == nil {
			t.Errorf("%s: packed", name)
		}
	}
	if _, err := probeObject().Image("docker"); err == nil || !strings.Contains(err.Error(), "bpfman, gadget") {
		t.Errorf("an unknown layout: %v", err)
	}
}

// TestHostileImages reads images that somebody made on purpose.
func TestHostileImages(t *testing.T) {
	object := entry{name: "probe.bpf.o", mode: 0o644, data: probeObject().Object}
	at := time.Unix(0, 0)
	with := func(labels map[string]string, layers ...[]entry) v1.Image {
		img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
		img, err := mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"}, Config: v1.Config{Labels: labels}})
		if err != nil {
			t.Fatal(err)
		}
		for _, entries := range layers {
			l, err := newLayer(at, entries...)
			if err != nil {
				t.Fatal(err)
			}
			if img, err = mutate.AppendLayers(img, l); err != nil {
				t.Fatal(err)
			}
		}
		return img
	}
	for name, tt := range map[string]struct {
		img     v1.Image
		problem string
	}{
		"one file and no labels":   {with(nil, []entry{object}), ""},
		"a folder before the file": {with(nil, []entry{{name: "etc/", mode: 0o755}, object}), ""},
		"no layer":                 {with(nil), "0 layers"},
		"two layers":               {with(nil, []entry{object}, []entry{{name: "x", data: []byte("y")}}), "2 layers"},
		"an empty layer":           {with(nil, nil), `the file ""`},
		"two files":                {with(nil, []entry{object, {name: "other.o", data: object.data}}), "two files"},
		"another file than the label": {
			with(map[string]string{labelFilename: "splitter.o"}, []entry{object}), `want "splitter.o"`,
		},
		"labels that are no JSON": {with(map[string]string{labelPrograms: "ingress"}, []entry{object}), labelPrograms},
		"a file that is no ELF":   {with(nil, []entry{{name: "probe.o", data: []byte("MZ")}}), "no ELF"},
		"a small layer that is a large file": {
			with(nil, []entry{{name: "probe.o", data: append([]byte("\x7fELF"), make([]byte, maxEBPF)...)}}), "more than",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readEBPF(tt.img)
			if tt.problem == "" && err != nil || tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem)) {
				t.Errorf("got %v, want %q", err, tt.problem)
			}
		})
	}
}

func TestPullRefusesWhatIsNotWhatItsDigestSays(t *testing.T) {
	for _, layout := range []string{LayoutBPFMan, LayoutGadget} {
		t.Run(layout, func(t *testing.T) {
			l, digest := publishEBPF(t, probeObject(), layout, `{"bundle":true}`)
			r, host := serve(t, true)
			if _, err := Push(t.Context(), l, "v1", host+"/probe:v1", PushOptions{Insecure: true}); err != nil {
				t.Fatal(err)
			}
			changed := 0
			r.answer(func(w http.ResponseWriter, req *http.Request) bool {
				if req.Method != http.MethodGet || !strings.Contains(req.URL.Path, "/blobs/") {
					return false
				}
				var answer recordedAnswer
				r.next.ServeHTTP(&answer, req)
				body := answer.body.Bytes()
				body[len(body)-1] ^= 1
				changed++
				for k, v := range answer.Header() {
					w.Header()[k] = v
				}
				_, _ = w.Write(body)
				return true
			})
			_, err := PullEBPF(t.Context(), host+"/probe@"+digest, "amd64", PullOptions{Insecure: true})
			if err == nil || changed == 0 {
				t.Errorf("a registry that changes a bit of what it was given: %v", err)
			}
			if pulled := (*PullError)(nil); !errors.As(err, &pulled) || !strings.Contains(err.Error(), host) {
				t.Errorf("got %v, want a PullError that names %s", err, host)
			}
		})
	}
}

// recordedAnswer keeps an answer.
type recordedAnswer struct {
	header http.Header
	body   bytes.Buffer
}

func (a *recordedAnswer) Header() http.Header {
	if a.header == nil {
		a.header = http.Header{}
	}
	return a.header
}
func (a *recordedAnswer) WriteHeader(int)             {}
func (a *recordedAnswer) Write(b []byte) (int, error) { return a.body.Write(b) }

func TestPullSaysWhatIsWrong(t *testing.T) {
	l, _ := publishEBPF(t, probeObject(), LayoutBPFMan)
	r, host := serve(t, true)
	if _, err := Push(t.Context(), l, "v1", host+"/probe:v1", PushOptions{Insecure: true}); err != nil {
		t.Fatal(err)
	}
	pull := func(ref, arch string, o PullOptions) error {
		_, err := PullEBPF(t.Context(), ref, arch, o)
		return err
	}
	var platform *PlatformError
	if err := pull(host+"/probe:v1", "s390x", PullOptions{Insecure: true}); !errors.As(err, &platform) || !cmp.Equal(platform.Have, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("for another machine: %v", err)
	}
	for name, tt := range map[string]struct {
		err       error
		temporary bool
		text      string
	}{
		"no such tag":               {pull(host+"/probe:v2", "amd64", PullOptions{Insecure: true}), false, "v2"},
		"plain HTTP unasked":        {pull(host+"/probe:v1", "amd64", PullOptions{}), false, "plain HTTP"},
		"plain HTTP to elsewhere":   {pull("registry.test/probe:v1", "amd64", PullOptions{Insecure: true}), false, "plain HTTP"},
		"nobody listens":            {pull("127.0.0.1:1/probe:v1", "amd64", PullOptions{Insecure: true}), true, "127.0.0.1:1"},
		"a name that is none":       {pull("Probe", "amd64", PullOptions{}), false, "host[:port]/repository"},
		"a name without a registry": {pull("probe:v1", "amd64", PullOptions{}), false, "host[:port]/repository"},
	} {
		var pulled *PullError
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.text) || errors.As(tt.err, &pulled) && pulled.Temporary() != tt.temporary {
			t.Errorf("%s: %v", name, tt.err)
		}
	}
	r.answer(func(_ http.ResponseWriter, req *http.Request) bool {
		select {
		case <-req.Context().Done():
		case <-time.After(10 * time.Second):
		}
		return true
	})
	begin := time.Now()
	if err := pull(host+"/probe:v1", "amd64", PullOptions{Insecure: true, Timeout: 300 * time.Millisecond}); err == nil || time.Since(begin) > 9*time.Second {
		t.Errorf("a registry that never answers: %v after %v", err, time.Since(begin))
	}
}

func FuzzReadTar(f *testing.F) {
	l, err := newLayer(time.Unix(0, 0), entry{name: "probe.o", mode: 0o644, data: probeObject().Object})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(l.(*layer).compressed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		name, object, err := readTar(bytes.NewReader(raw), "")
		if err == nil && (name == "" || len(object) > maxEBPF) {
			t.Errorf("%q with %d bytes", name, len(object))
		}
	})
}
