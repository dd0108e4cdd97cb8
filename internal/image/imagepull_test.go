package image

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPullImageReadsAllThatWasPushed(t *testing.T) {
	for name, supported := range map[string]bool{"with the referrers API": true, "with the fallback tag": false} {
		t.Run(name, func(t *testing.T) {
			_, host := serve(t, supported)
			l := open(t, t.TempDir())
			cfg := config(t, certificate(t, 1), "v1.0.0")
			digest := mustPublish(t, l, cfg)
			index, err := l.Image(digest)
			if err != nil {
				t.Fatal(err)
			}
			manifest, err := index.IndexManifest()
			if err != nil {
				t.Fatal(err)
			}
			want := Stored{Digest: digest, Tagged: digest, Bundles: [][]byte{[]byte(`{"of":"all"}`)}}
			if _, err := l.AttachBundle(digest, want.Bundles[0]); err != nil {
				t.Fatal(err)
			}
			for i, m := range manifest.Manifests {
				p := StoredPlatform{Platform: m.Platform.String(), Digest: m.Digest.String(), Bundles: [][]byte{[]byte(`{"of":"` + m.Platform.String() + `"}`)}}
				if _, err := l.AttachBundle(p.Digest, p.Bundles[0]); err != nil {
					t.Fatal(err)
				}
				binaries, err := linuxBinaries(cfg.Binaries)
				if err != nil {
					t.Fatal(err)
				}
				binary, err := os.ReadFile(binaries[i].path)
				if err != nil {
					t.Fatal(err)
				}
				p.Program = hashOf(binary).Hex
				want.Platforms = append(want.Platforms, p)
			}
			ref := host + "/team/shop:v1.0.0"
			if _, err := Push(t.Context(), l, "v1.0.0", ref, PushOptions{Insecure: true}); err != nil {
				t.Fatal(err)
			}
			for tag, tagged := range map[string]string{":v1.0.0": digest, ":v9": "", "": ""} {
				want.Tagged = tagged
				got, err := PullImage(t.Context(), host+"/team/shop"+tag+"@"+digest, PullOptions{Insecure: true})
				for i := range got.Bundles { // without what config attaches
					if bytes.Contains(got.Bundles[i], []byte(`"of"`)) {
						got.Bundles = [][]byte{got.Bundles[i]}
						break
					}
				}
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("with the tag %q: %v %s", tag, err, diff)
				}
			}
			if _, err := PullImage(t.Context(), ref, PullOptions{Insecure: true}); err == nil || !strings.Contains(err.Error(), "names no digest") {
				t.Errorf("without a digest: %v", err)
			}
		})
	}
}

func TestPullImageTellsDamageFromSilence(t *testing.T) {
	r, host := serve(t, true)
	l := open(t, t.TempDir())
	digest := mustPublish(t, l, config(t, certificate(t, 1), "v1.0.0"))
	if _, err := Push(t.Context(), l, "v1.0.0", host+"/team/shop:v1.0.0", PushOptions{Insecure: true}); err != nil {
		t.Fatal(err)
	}
	cut := func(w http.ResponseWriter, body []byte) { // the length is right, the connection ends
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(body[:len(body)/2])
		panic(http.ErrAbortHandler)
	}
	for name, tt := range map[string]struct {
		part    string
		answer  func(w http.ResponseWriter, body []byte)
		damaged bool
	}{
		"a flipped bit in a layer":    {"/blobs/", func(w http.ResponseWriter, body []byte) { body[len(body)/2] ^= 1; _, _ = w.Write(body) }, true},
		"another index":               {"/manifests/" + digest, func(w http.ResponseWriter, body []byte) { _, _ = w.Write(append(body, ' ')) }, true},
		"the registry is overloaded":  {"/blobs/", func(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusTooManyRequests) }, false},
		"the connection ends halfway": {"/blobs/", cut, false},
	} {
		r.answer(func(w http.ResponseWriter, req *http.Request) bool {
			if !strings.Contains(req.URL.Path, tt.part) || req.Method != http.MethodGet {
				return false
			}
			real := httptest.NewRecorder()
			r.next.ServeHTTP(real, req)
			w.Header().Set("Content-Type", real.Header().Get("Content-Type"))
			tt.answer(w, real.Body.Bytes())
			return true
		})
		_, err := PullImage(t.Context(), host+"/team/shop:v1.0.0@"+digest, PullOptions{Insecure: true})
		var pull *PullError
		var content *ContentError
		if !errors.As(err, &pull) || errors.As(err, &content) != tt.damaged || !tt.damaged && !pull.Temporary() {
			t.Errorf("%s: %v", name, err)
		}
		if tt.damaged && content.Hint() == "" {
			t.Errorf("%s: no hint", name)
		}
	}
}
