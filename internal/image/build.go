// Package image makes container images without a daemon, keeps them in an OCI
// image layout and pushes them to registries.
//
// An image holds one static binary, the certificate authorities and the few
// files that a process expects, and nothing that could run a shell. Equal
// input gives an equal digest: no clock, owner or path of the machine gets in;
// the certificate bundle is part of the input and named in a label.
//
// A Layout is complete at every moment, whatever is killed: blobs come before
// what names them, and index.json is replaced as a whole. Nothing is read from
// it without its digest being checked. Signatures, SBOMs and verdicts hang on
// an image as OCI referrers; what they say is for other packages to verify.
package image

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// User is the user and group that the process in an image runs as.
const User = "65532:65532"

// CALabel is the label with the digest of the certificate bundle inside.
const CALabel = "dev.sluice.ca-certificates.digest"

// Config says what goes into an image. Name, Version and Binaries are needed.
type Config struct {
	Name     string   // also the path of the binary: /<Name>
	Version  string   // label org.opencontainers.image.version
	Commit   string   // label …revision, "" for none
	Source   string   // label …source, the repository's URL, "" for none
	Binaries []Binary // those that are not for Linux are left out
	Args     []string // default arguments
	Env      map[string]string
	Port     int       // exposed TCP port, 0 for none
	CACerts  string    // PEM file; "" takes the bundle of this machine
	Created  time.Time // zero means SOURCE_DATE_EPOCH, or 1970 without it
}

// Binary is one statically linked program.
type Binary struct {
	Platform string // "linux/arm64", "linux/arm/v7"; "linux/arm" means v7
	Path     string
}

// ErrNoLinux means that no binary is for Linux, so that there is no image.
var ErrNoLinux = errors.New("no binary for Linux, so no image")

// nameForm keeps names fit for a path, a tag and a shell.
var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)

// Build makes the multi-platform image. The result holds its layers in memory.
// Errors: ErrNoLinux, *BinaryError for a file that cannot run in an image,
// *CAError for the certificate bundle.
func Build(c Config) (v1.ImageIndex, error) {
	if !nameForm.MatchString(c.Name) || reservedNames[c.Name] {
		return nil, fmt.Errorf("building image: name %q does not do for a file in it (want lower-case letters, digits, '.', '_', '-')", c.Name)
	}
	binaries, err := linuxBinaries(c.Binaries)
	if err != nil {
		return nil, err
	}
	if c.Created.IsZero() {
		if c.Created, err = epoch(); err != nil {
			return nil, err
		}
	}
	c.Created = c.Created.UTC().Truncate(time.Second)
	bundle, caDigest, err := CABundle(c.CACerts)
	if err != nil {
		return nil, err
	}
	base, err := baseLayer(bundle, c.Created)
	if err != nil {
		return nil, err
	}
	labels := c.labels(caDigest)
	images := make([]v1.Image, len(binaries))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, b := range binaries {
		group.Go(func() (err error) {
			images[i], err = platformImage(c, b, base, labels)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var adds []mutate.IndexAddendum
	for i, img := range images {
		adds = append(adds, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &binaries[i].platform}})
	}
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), adds...)
	return mutate.Annotations(index, labels).(v1.ImageIndex), nil
}

// platformImage is the image of one binary.
func platformImage(c Config, b linuxBinary, base v1.Layer, labels map[string]string) (v1.Image, error) {
	layer, err := binaryLayer(c.Name, b.path, c.Created)
	if err != nil {
		return nil, fmt.Errorf("building image for %s: %w", b.platform, err)
	}
	created := v1.Time{Time: c.Created}
	img, err := mutate.ConfigFile(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), &v1.ConfigFile{
		Architecture: b.platform.Architecture,
		OS:           b.platform.OS,
		Variant:      b.platform.Variant,
		Created:      created,
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:         User,
			Env:          c.environment(),
			Entrypoint:   []string{"/" + c.Name},
			Cmd:          c.Args,
			WorkingDir:   "/",
			ExposedPorts: c.ports(),
			Labels:       labels,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("building image for %s: %w", b.platform, err)
	}
	img, err = mutate.Append(img,
		mutate.Addendum{Layer: base, MediaType: types.OCILayer, History: v1.History{Created: created, CreatedBy: "sluice: base files"}},
		mutate.Addendum{Layer: layer, MediaType: types.OCILayer, History: v1.History{Created: created, CreatedBy: "sluice: /" + c.Name}})
	if err != nil {
		return nil, fmt.Errorf("building image for %s: %w", b.platform, err)
	}
	return mutate.Annotations(img, labels).(v1.Image), nil
}

func (c Config) labels(caDigest string) map[string]string {
	const prefix = "org.opencontainers.image."
	labels := map[string]string{
		prefix + "title":    c.Name,
		prefix + "version":  c.Version,
		prefix + "revision": c.Commit,
		prefix + "source":   c.Source,
		CALabel:             caDigest,
	}
	maps.DeleteFunc(labels, func(_, v string) bool { return v == "" })
	return labels
}

// environment is sorted, with the two variables of distroless images first.
func (c Config) environment() []string {
	env := []string{"PATH=/", "SSL_CERT_FILE=" + caPath}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		env = append(env, name+"="+c.Env[name])
	}
	return env
}

func (c Config) ports() map[string]struct{} {
	if c.Port == 0 {
		return nil
	}
	return map[string]struct{}{strconv.Itoa(c.Port) + "/tcp": {}}
}

// epoch reads SOURCE_DATE_EPOCH (reproducible-builds.org), seconds since 1970.
func epoch() (time.Time, error) {
	text := cmp.Or(os.Getenv("SOURCE_DATE_EPOCH"), "0")
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("building image: SOURCE_DATE_EPOCH is %q, want seconds since 1970", text)
	}
	return time.Unix(seconds, 0), nil
}
