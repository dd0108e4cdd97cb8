package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// program writes a file with the ELF header of a static program and content
// behind it, and returns its path.
func program(t testing.TB, machine uint16, content string) string {
	t.Helper()
	header := make([]byte, 64)
	copy(header, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(header[16:], 2) // ET_EXEC
	le.PutUint16(header[18:], machine)
	le.PutUint32(header[20:], 1)
	le.PutUint16(header[52:], 64)
	le.PutUint16(header[54:], 56)
	le.PutUint16(header[58:], 64)
	return file(t, "shop", append(header, content...))
}

func file(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

const amd64, arm, arm64 = 62, 40, 183

// certificate makes a PEM certificate.
func certificate(t testing.TB, serial int64) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// config is a service for three platforms. Every call uses other directories.
func config(t testing.TB, ca []byte, version string) Config {
	t.Helper()
	return Config{
		Name: "shop", Version: version, Commit: "0123456789abcdef", Source: "https://example.com/shop",
		Binaries: []Binary{
			{"linux/arm/v7", program(t, arm, "arm "+version)},
			{"linux/amd64", program(t, amd64, "amd64 "+version)},
			{"windows/amd64", "absent.exe"},
			{"linux/arm64", program(t, arm64, "arm64 "+version)},
		},
		Args: []string{"--listen", ":8080"}, Env: map[string]string{"B": "2", "A": "1"}, Port: 8080,
		CACerts: file(t, "ca.pem", ca), Created: time.Unix(0, 0),
	}
}

func build(t testing.TB, c Config) v1.ImageIndex {
	t.Helper()
	index, err := Build(c)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func digest(t testing.TB, d interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := d.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

func TestEqualInputGivesAnEqualDigest(t *testing.T) {
	a, b := certificate(t, 1), certificate(t, 2)
	first := digest(t, build(t, config(t, slices.Concat(a, b), "v1.0.0")))
	t.Run("in other directories", func(t *testing.T) {
		if got := digest(t, build(t, config(t, slices.Concat(a, b), "v1.0.0"))); got != first {
			t.Errorf("%s and %s", first, got)
		}
	})
	t.Run("with the bundle in another order and form", func(t *testing.T) {
		bundle := slices.Concat([]byte("# comment\n\n"), b, []byte("\nname\n"), a, a)
		if got := digest(t, build(t, config(t, bundle, "v1.0.0"))); got != first {
			t.Errorf("%s and %s", first, got)
		}
	})
	t.Run("with the platforms in another order", func(t *testing.T) {
		c := config(t, slices.Concat(a, b), "v1.0.0")
		slices.Reverse(c.Binaries)
		if got := digest(t, build(t, c)); got != first {
			t.Errorf("%s and %s", first, got)
		}
	})
	for name, change := range map[string]func(*Config){
		"the version":      func(c *Config) { c.Version = "v1.0.1" },
		"the commit":       func(c *Config) { c.Commit = "" },
		"a program":        func(c *Config) { c.Binaries[0].Path = program(t, arm, "other") },
		"the certificates": func(c *Config) { c.CACerts = file(t, "ca.pem", a) },
		"the environment":  func(c *Config) { c.Env["A"] = "2" },
		"the time":         func(c *Config) { c.Created = time.Unix(1, 0) },
	} {
		t.Run(name+" makes another one", func(t *testing.T) {
			c := config(t, slices.Concat(a, b), "v1.0.0")
			change(&c)
			if got := digest(t, build(t, c)); got == first {
				t.Errorf("the digest is still %s", got)
			}
		})
	}
}

func TestWhatIsInAnImage(t *testing.T) {
	ca := certificate(t, 1)
	index := build(t, config(t, ca, "v1.0.0"))
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm/v7", "linux/arm64"}, platforms); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
	labels := map[string]string{
		"org.opencontainers.image.title": "shop", "org.opencontainers.image.version": "v1.0.0",
		"org.opencontainers.image.revision": "0123456789abcdef", "org.opencontainers.image.source": "https://example.com/shop",
		CALabel: hashOf(ca).String(),
	}
	if diff := cmp.Diff(labels, manifest.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	img, err := index.Image(manifest.Manifests[1].Digest)
	if err != nil {
		t.Fatal(err)
	}
	got, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{
		User: "65532:65532", Env: []string{"PATH=/", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt", "A=1", "B=2"},
		Entrypoint: []string{"/shop"}, Cmd: []string{"--listen", ":8080"}, WorkingDir: "/",
		ExposedPorts: map[string]struct{}{"8080/tcp": {}}, Labels: labels,
	}
	if diff := cmp.Diff(want, got.Config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if got.Architecture != "arm" || got.Variant != "v7" || !got.Created.Equal(time.Unix(0, 0)) {
		t.Errorf("configuration is for %s/%s, created %v", got.Architecture, got.Variant, got.Created)
	}
	wantFiles := []string{
		"etc/ drwxr-xr-x 0", "etc/group -rw-r--r-- 0", "etc/nsswitch.conf -rw-r--r-- 0", "etc/passwd -rw-r--r-- 0", "etc/ssl/ drwxr-xr-x 0",
		"etc/ssl/certs/ drwxr-xr-x 0", "etc/ssl/certs/ca-certificates.crt -rw-r--r-- 0", "home/ drwxr-xr-x 0", "home/nonroot/ drwx------ 65532",
		"tmp/ dtrwxrwxrwx 0", "shop -rwxr-xr-x 0",
	}
	if diff := cmp.Diff(wantFiles, files(t, img)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func files(t *testing.T, img v1.Image) []string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, l := range layers {
		content, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		archive := tar.NewReader(content)
		for h, err := archive.Next(); err != io.EOF; h, err = archive.Next() {
			if err != nil {
				t.Fatal(err)
			}
			if !h.ModTime.Equal(time.Unix(0, 0)) || h.Uname != "" {
				t.Errorf("%s has time %v and owner %q", h.Name, h.ModTime, h.Uname)
			}
			list = append(list, fmt.Sprintf("%s %v %d", h.Name, h.FileInfo().Mode(), h.Uid))
		}
	}
	return list
}

// TestGzipHeader holds the compressed form free of time, name and system.
func TestGzipHeader(t *testing.T) {
	l, err := newLayer(time.Unix(5, 0), entry{name: "a", data: []byte("a")})
	if err != nil {
		t.Fatal(err)
	}
	content, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(content)
	if err != nil {
		t.Fatal(err)
	}
	if !zip.ModTime.IsZero() || zip.Name != "" || zip.Comment != "" || zip.OS != 255 {
		t.Errorf("header %+v", zip.Header)
	}
}

func TestWhatCannotBeAnImage(t *testing.T) {
	ca := certificate(t, 1)
	var binaryError *BinaryError
	var caError *CAError
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
		as     any
	}{
		"no binary for Linux": {func(c *Config) { c.Binaries = c.Binaries[2:3] }, "no binary for Linux", nil},
		"another architecture": {
			func(c *Config) { c.Binaries[0].Path = program(t, amd64, "") },
			"image for linux/arm/v7: ", &binaryError,
		},
		"a script":            {func(c *Config) { c.Binaries[0].Path = file(t, "x", []byte("#!/bin/sh\n")) }, "is no program for Linux", &binaryError},
		"a missing file":      {func(c *Config) { c.Binaries[0].Path = "absent" }, "absent: no such file", &binaryError},
		"a dynamic program":   {func(c *Config) { c.Binaries[1].Path = dynamic(t) }, "linked dynamically", &binaryError},
		"a shared object":     {func(c *Config) { c.Binaries[1].Path = relocatable(t) }, "is no program", &binaryError},
		"a platform twice":    {func(c *Config) { c.Binaries[1] = Binary{"linux/arm", c.Binaries[0].Path} }, "a second binary", &binaryError},
		"unknown platform":    {func(c *Config) { c.Binaries[0].Platform = "linux/z80" }, "unknown architecture z80", &binaryError},
		"a name with a slash": {func(c *Config) { c.Name = "../shop" }, "does not do for a file", nil},
		"the name of a dir":   {func(c *Config) { c.Name = "etc" }, "does not do for a file", nil},
		"no name":             {func(c *Config) { c.Name = "" }, "does not do for a file", nil},
		"no bundle":           {func(c *Config) { c.CACerts = "absent.pem" }, "absent.pem", &caError},
		"an empty bundle":     {func(c *Config) { c.CACerts = file(t, "ca.pem", nil) }, "no certificate in it", &caError},
		"a broken bundle": {func(c *Config) {
			c.CACerts = file(t, "ca.pem", slices.Concat(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})))
		}, "certificate 2: ", &caError},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t, ca, "v1.0.0")
			tt.change(&c)
			_, err := Build(c)
			if err == nil || !strings.Contains(err.Error(), tt.want) || tt.as != nil && !errors.As(err, tt.as) {
				t.Errorf("error %v; want one with %q", err, tt.want)
			}
		})
	}
	if caError == nil || caError.Hint() == "" {
		t.Error("CAError without hint")
	}
}

// dynamic is a program that names an interpreter.
func dynamic(t *testing.T) string {
	data, err := os.ReadFile(program(t, amd64, strings.Repeat("\x00", 56)))
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint64(data[32:], 64) // program headers follow
	binary.LittleEndian.PutUint16(data[56:], 1)
	binary.LittleEndian.PutUint32(data[64:], 3) // PT_INTERP
	return file(t, "dynamic", data)
}

func relocatable(t *testing.T) string {
	data, err := os.ReadFile(program(t, amd64, ""))
	if err != nil {
		t.Fatal(err)
	}
	data[16] = 1 // ET_REL
	return file(t, "object", data)
}

func TestSourceDateEpoch(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "1700000000": 1700000000, "-1": -1, "soon": -1} {
		t.Setenv("SOURCE_DATE_EPOCH", text)
		c := config(t, certificate(t, 1), "v1.0.0")
		c.Created = time.Time{}
		index, err := Build(c)
		if want < 0 {
			if err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH") {
				t.Errorf("%q: error %v; want one about SOURCE_DATE_EPOCH", text, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		manifest, _ := index.IndexManifest()
		img, _ := index.Image(manifest.Manifests[0].Digest)
		config, err := img.ConfigFile()
		if err != nil || config.Created.Unix() != want {
			t.Errorf("%q: created %v, %v; want %d", text, config.Created, err, want)
		}
	}
}

func TestHostBundle(t *testing.T) {
	bundle, digest, err := CABundle("")
	if err != nil {
		t.Skip(err) // a machine without ca-certificates
	}
	if digest != hashOf(bundle).String() || !bytes.Contains(bundle, []byte("BEGIN CERTIFICATE")) {
		t.Errorf("digest %s of %d bytes", digest, len(bundle))
	}
}
