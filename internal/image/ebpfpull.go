package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// PullTimeout bounds a pull when PullOptions.Timeout is zero.
const PullTimeout = time.Minute

// PullOptions configures PullEBPF. The zero value works for a registry with HTTPS.
type PullOptions struct {
	Insecure bool          // plain HTTP, from a registry on this machine only
	Timeout  time.Duration // for the whole pull; 0 means PullTimeout
}

// PullError reports a pull that did not get through.
type PullError struct {
	Host string
	Ref  string
	Err  error
}

// Error names the reference, and with it the host.
func (e *PullError) Error() string { return fmt.Sprintf("pulling %s: %v", e.Ref, e.Err) }

// Unwrap gives the cause.
func (e *PullError) Unwrap() error { return e.Err }

// Temporary reports whether the same pull may succeed later.
func (e *PullError) Temporary() bool {
	return mayPass(e.Err) || errors.Is(e.Err, context.DeadlineExceeded)
}

// Hint says what would help.
func (e *PullError) Hint() string {
	var plain *PlainHTTPError
	var answer *transport.Error
	switch {
	case errors.As(e.Err, &plain):
		return plain.Hint()
	case errors.As(e.Err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		return "log in first: docker login " + e.Host
	case e.Temporary():
		return "see whether " + e.Host + " is up, then pull again"
	}
	return ""
}

// PullEBPF reads an eBPF object for machines with the architecture from a
// registry: ref is "host[:port]/repository", with ":tag" or "@sha256:…". Nothing
// is written. What arrives is compared with the digest by which it was asked for.
// Errors: *PullError, which may hold a *PlatformError.
func PullEBPF(ctx context.Context, ref, arch string, opts PullOptions) (stored StoredEBPF, err error) {
	err = opts.pull(ctx, ref, func(p *pull, r name.Reference) error {
		stored, err = p.read(r, arch)
		return err
	})
	return stored, err
}

// pull calls read with what a registry has to be asked with.
func (opts PullOptions) pull(ctx context.Context, ref string, read func(*pull, name.Reference) error) error {
	options := []name.Option{name.StrictValidation}
	if opts.Insecure {
		options = append(options, name.Insecure)
	}
	r, err := name.ParseReference(ref, options...)
	if err != nil {
		return fmt.Errorf("pulling %q: want host[:port]/repository with :tag or @sha256:digest: %w", ref, err)
	}
	host := r.Context().RegistryStr()
	if opts.Insecure && !loopback(host) {
		return &PullError{Host: host, Ref: ref, Err: &PlainHTTPError{Host: host, Insecure: true}}
	}
	timeout := cmp.Or(opts.Timeout, PullTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, timeoutError(timeout))
	defer cancel()
	guard := newTransport(opts.Insecure)
	defer guard.base.CloseIdleConnections()
	err = read(&pull{r.Context(), []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithUserAgent("sluice"),
		remote.WithTransport(guard),
		remote.WithRetryBackoff(remote.Backoff{Duration: 300 * time.Millisecond, Factor: 3, Jitter: 0.1, Steps: 3}),
		remote.WithRetryPredicate(mayPass),
	}, pullLimit{maxReferrers, maxBundleBytes, maxReferrers * maxBundleBytes}}, r)
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return &PullError{Host: host, Ref: ref, Err: err}
}

type pull struct {
	repository name.Repository
	options    []remote.Option
	limit      pullLimit
}

// pullLimit bounds what a registry makes us keep.
type pullLimit struct {
	referrers int   // things that refer to one subject
	bundle    int64 // bytes of one bundle
	all       int64 // bytes of all that are still to come
}

func (p *pull) read(r name.Reference, arch string) (StoredEBPF, error) {
	got, err := remote.Get(r, p.options...)
	if err != nil {
		return StoredEBPF{}, err
	}
	var img v1.Image
	if got.MediaType.IsIndex() {
		var index v1.ImageIndex
		if index, err = got.ImageIndex(); err == nil {
			img, err = forArch(index, arch)
		}
	} else {
		img, err = got.Image()
	}
	if err != nil {
		return StoredEBPF{}, err
	}
	stored, err := readEBPF(img)
	if err != nil {
		return StoredEBPF{}, err
	}
	stored.Digest = got.Digest.String()
	stored.Bundles, err = p.bundles(p.repository.Digest(stored.Digest))
	if err != nil {
		return StoredEBPF{}, fmt.Errorf("reading signatures: %w", err)
	}
	return stored, nil
}

// bundles reads what refers to an image and is a Sigstore bundle.
func (p *pull) bundles(subject name.Digest) ([][]byte, error) {
	index, err := remote.Referrers(subject, p.options...)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if n := len(manifest.Manifests); n > p.limit.referrers {
		return nil, fmt.Errorf("%d things refer to the image, more than %d", n, p.limit.referrers)
	}
	var bundles [][]byte
	for _, d := range manifest.Manifests {
		raw, err := p.bundle(p.repository.Digest(d.Digest.String()))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Digest, err)
		}
		if raw != nil {
			bundles = append(bundles, raw)
		}
	}
	return bundles, nil
}

// bundle reads a referrer; nil if it is something else. Only its manifest tells:
// in the list of referrers some registries have other types.
func (p *pull) bundle(referrer name.Digest) ([]byte, error) {
	img, err := remote.Image(referrer, p.options...)
	if err != nil {
		return nil, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	if manifest.ArtifactType != BundleArtifactType {
		return nil, nil
	}
	if n := len(manifest.Layers); n != 1 {
		return nil, fmt.Errorf("%d files, want one", n)
	}
	layer, err := img.LayerByDigest(manifest.Layers[0].Digest)
	if err != nil {
		return nil, err
	}
	content, err := layer.Compressed()
	if err != nil {
		return nil, err
	}
	raw, err := readLimited(content, min(p.limit.bundle, p.limit.all))
	p.limit.all -= int64(len(raw))
	return raw, errors.Join(err, content.Close())
}
