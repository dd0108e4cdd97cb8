package hook

import (
	"encoding/base64"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sluice-cd/sluice/internal/admit"
	"github.com/sluice-cd/sluice/internal/config"
)

// privateRegistry has one image, which nobody has signed, for whoever knows the password.
func privateRegistry(t *testing.T) (ref string) {
	t.Helper()
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "robot" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="images"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		images.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	ref = strings.TrimPrefix(s.URL, "http://") + "/team/shop:1.1.0"
	index, err := random.Index(64, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(ref)
	if err == nil {
		err = remote.WriteIndex(tag, index, remote.WithAuth(&authn.Basic{Username: "robot", Password: "secret"}))
	}
	digest, digestErr := index.Digest()
	if err := errors.Join(err, digestErr); err != nil {
		t.Fatal(err)
	}
	return ref + "@" + digest.String()
}

func TestAPullSecretOpensAPrivateRegistry(t *testing.T) {
	ref := privateRegistry(t)
	key := filepath.Join(t.TempDir(), "cosign.pub")
	write(t, key, publicKey)
	admitImage = admit.Image
	t.Cleanup(func() { admitImage = judged })
	h := &hook{Settings: Settings{Config: &config.Config{Name: "shop", Publish: config.Publish{Insecure: true}}, PublicKey: key, Image: ref}}
	for name, tt := range map[string]struct{ user, says string }{
		"nobody":                       {"", "the registry does not let us read"},
		"somebody else":                {"robot:wrong", "the registry does not let us read"},
		"who the pull secret is about": {"robot:secret", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir() // as the Secret is mounted
			if tt.user != "" {
				host, _, _ := strings.Cut(ref, "/")
				write(t, filepath.Join(dir, "config.json"), `{"auths":{"`+host+`":{"auth":"`+base64.StdEncoding.EncodeToString([]byte(tt.user))+`"}}}`)
			}
			t.Setenv("DOCKER_CONFIG", dir)
			_, v, err := h.admitted(t.Context(), "")
			var refused *admit.RegistryError
			switch {
			case tt.says == "" && (err != nil || !v.failed() || !strings.Contains(v.Reason, "is not admitted")):
				t.Errorf("verdict %q (%s), %v: the image was not looked at", v.Verdict, v.Reason, err)
			case tt.says != "" && (!errors.As(err, &refused) || !refused.Refused() || !strings.Contains(err.Error(), tt.says) || v.failed()):
				t.Errorf("verdict %q, %v", v.Verdict, err)
			}
		})
	}
}
