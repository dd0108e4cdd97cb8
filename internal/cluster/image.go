package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// PushImage makes an image that holds one static program (and an empty /tmp) and
// pushes it into the cluster's registry as repository:tag. It returns the full
// reference with its digest. It needs root, but not to be inside.
func (i *Info) PushImage(ctx context.Context, program, image string) (string, error) {
	transport, err := trusting(i.RegistryCA)
	if err != nil {
		return "", err
	}
	transport.DialContext, transport.DisableKeepAlives = i.DialContext, true
	return push(ctx, program, i.Registry+"/"+image, transport)
}

// trusting is a transport that takes certificates of one authority only.
func trusting(ca string) (*http.Transport, error) {
	raw, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("reading the authority of the registry: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("reading the authority of the registry: no certificate in %s", ca)
	}
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}, nil
}

func push(ctx context.Context, program, ref string, transport http.RoundTripper) (string, error) {
	tag, err := name.NewTag(ref, name.StrictValidation)
	if err != nil {
		return "", fmt.Errorf("pushing an image: %w", err)
	}
	image, err := imageOf(program)
	if err != nil {
		return "", fmt.Errorf("making an image of %s: %w", program, err)
	}
	if err := remote.Write(tag, image, remote.WithContext(ctx), remote.WithTransport(transport)); err != nil {
		return "", fmt.Errorf("pushing %s: %w", ref, err)
	}
	digest, err := image.Digest()
	if err != nil {
		return "", fmt.Errorf("pushing %s: %w", ref, err)
	}
	return ref + "@" + digest.String(), nil
}

// imageOf is the same for the same program, bit for bit.
func imageOf(program string) (v1.Image, error) {
	raw, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	entry := path.Join("/", filepath.Base(program))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}); err != nil {
		return nil, err
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: entry[1:], Mode: 0o755, Size: int64(len(raw))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config.Entrypoint = []string{entry}
	return mutate.ConfigFile(image, file)
}
