package image

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sluice-cd/sluice/internal/reference"
)

// Stored is an image of several platforms as it lies in a registry, and the
// Sigstore bundles that refer to it. Every byte was compared with the digest by
// which it was asked for; whether a signature holds is not checked here.
type Stored struct {
	Digest    string // of the index
	Tagged    string // the digest that the reference's tag has; "" if it has no such tag or names none
	Bundles   [][]byte
	Platforms []StoredPlatform
}

// StoredPlatform is the image of one platform.
type StoredPlatform struct {
	Platform string // "linux/arm64"
	Digest   string
	Program  string // SHA-256 of the file that is started, in hexadecimal
	Bundles  [][]byte
}

// ContentError means that a registry sent something else than it was asked for.
type ContentError struct {
	What string // which part of the image
	Err  error
}

func (e *ContentError) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *ContentError) Unwrap() error { return e.Err }

// Hint says what would help.
func (e *ContentError) Hint() string {
	return "what the registry has is damaged or was tampered with; publish the release again, and find out who can write there"
}

// PredicateRelease is the type of the signed statement by which the manifest of
// a release is kept with its image.
const PredicateRelease = "https://sluice.dev/release/v1"

// ofImage leaves room for the SBOMs of large binaries, and the verdicts of many
// rollouts.
var ofImage = pullLimit{referrers: 256, bundle: 16 << 20, all: 128 << 20}

// PullImage reads all of an image, layers included, and what is signed about it
// and about each platform: ref is "host[:port]/repository[:tag]@sha256:…". Nothing
// is written. Errors: *PullError, which holds a *ContentError when something does
// not have its digest.
func PullImage(ctx context.Context, ref string, opts PullOptions) (stored Stored, err error) {
	err = opts.pull(ctx, ref, func(p *pull, r name.Reference) error {
		digest, ok := r.(name.Digest)
		if !ok {
			return errors.New("the reference names no digest")
		}
		puller, err := remote.NewPuller(p.options...) // one login for all
		if err != nil {
			return err
		}
		p.options, p.limit = append(p.options, remote.Reuse(puller)), ofImage
		stored, err = p.image(digest, reference.Parse(ref).Tag)
		return err
	})
	return stored, err
}

func (p *pull) image(d name.Digest, tag string) (s Stored, err error) {
	s.Digest = d.DigestStr()
	index, err := remote.Index(d, p.options...)
	if err != nil {
		return s, damaged("the index", err)
	}
	if tag != "" {
		if s.Tagged, err = p.tagged(tag); err != nil {
			return s, err
		}
	}
	if s.Bundles, err = p.bundles(d); err != nil {
		return s, damaged("what refers to the image", err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return s, damaged("the index", err)
	}
	for _, m := range manifest.Manifests {
		platform := StoredPlatform{Digest: m.Digest.String(), Platform: "unknown"}
		if m.Platform != nil {
			platform.Platform = m.Platform.String()
		}
		img, err := index.Image(m.Digest)
		if err != nil {
			return s, damaged("the image for "+platform.Platform, err)
		}
		if platform.Program, err = startedProgram(img); err != nil {
			return s, damaged("the image for "+platform.Platform, err)
		}
		if platform.Bundles, err = p.bundles(p.repository.Digest(platform.Digest)); err != nil {
			return s, damaged("what refers to the image for "+platform.Platform, err)
		}
		s.Platforms = append(s.Platforms, platform)
	}
	return s, nil
}

// tagged is the digest that a tag has, "" if there is no such tag.
func (p *pull) tagged(tag string) (string, error) {
	d, err := remote.Head(p.repository.Tag(tag), p.options...)
	var answer *transport.Error
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return d.Digest.String(), nil
}

// damaged tells an answer that is not what was asked for from none at all.
func damaged(what string, err error) error {
	var answer *transport.Error
	var request *url.Error
	var network net.Error
	if mayPass(err) || errors.As(err, &answer) || errors.As(err, &request) || errors.As(err, &network) || errors.Is(err, context.Canceled) {
		return err // a deadline is a network error, too
	}
	return &ContentError{what, err}
}

// maxProgram bounds the files of one layer.
const maxProgram = 1 << 30

// startedProgram reads all of an image and returns the SHA-256 of the file that it
// starts: that of the last layer that has it.
func startedProgram(img v1.Image) (string, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return "", err
	}
	if len(config.Config.Entrypoint) == 0 {
		return "", errors.New("it does not say what to start")
	}
	layers, err := img.Layers()
	if err != nil {
		return "", err
	}
	started := strings.TrimPrefix(path.Clean(config.Config.Entrypoint[0]), "/")
	sum := ""
	for _, l := range layers {
		found, err := hashFile(l, started)
		if err != nil {
			return "", err
		}
		if found != "" {
			sum = found
		}
	}
	if sum == "" {
		return "", fmt.Errorf("there is no file /%s, which it starts", started)
	}
	return sum, nil
}

// hashFile reads a layer to its end, so that its digest is compared, and returns
// the SHA-256 of a file in it; "" if it does not have it.
func hashFile(l v1.Layer, file string) (sum string, err error) {
	content, err := l.Compressed()
	if err != nil {
		return "", err
	}
	defer content.Close()
	raw := &remembers{r: content}
	zip, err := gzip.NewReader(raw)
	if err != nil {
		return "", raw.or(err)
	}
	archive := tar.NewReader(io.LimitReader(zip, maxProgram))
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", raw.or(err)
		}
		if header.Typeflag != tar.TypeReg || strings.TrimPrefix(path.Clean("/"+header.Name), "/") != file {
			continue
		}
		h := sha256.New()
		if _, err := io.Copy(h, archive); err != nil {
			return "", raw.or(err)
		}
		sum = hex.EncodeToString(h.Sum(nil))
	}
	_, err = io.Copy(io.Discard, raw)
	return sum, err
}

// remembers keeps the error of a reader, which says more than what is made of it.
type remembers struct {
	r   io.Reader
	err error
}

func (r *remembers) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// or is that error, or another one if there was none. A damaged layer may fail to
// unpack before its end, where its digest is compared: it is read to there.
func (r *remembers) or(err error) error {
	if _, reading := io.Copy(io.Discard, r); reading != nil {
		return reading
	}
	if r.err != nil {
		return r.err
	}
	return err
}
