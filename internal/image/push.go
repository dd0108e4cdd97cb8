package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// PushTimeout bounds a push when PushOptions.Timeout is zero.
const PushTimeout = 10 * time.Minute

// PushOptions configures Push. The zero value works for a registry with HTTPS.
type PushOptions struct {
	Insecure bool                    // plain HTTP, to a registry on this machine only
	Timeout  time.Duration           // for the whole push; 0 means PushTimeout
	Progress func(done, total int64) // called with bytes, never after Push has returned
}

// Push publishes a tag of the layout under ref, "host[:port]/repository:tag":
// first the image by its digest, then what refers to it, the tag last, so that
// whoever sees the tag can verify what it names. It returns the digest.
//
// Credentials are those of the Docker configuration. What the registry has is
// not sent again, and failures that may pass are tried three times. Registries
// without the referrers API get the fallback tag of the OCI specification.
// Errors: *RegistryError; *DigestError when the layout is damaged.
func Push(ctx context.Context, l *Layout, tag, ref string, opts PushOptions) (digest string, err error) {
	target, err := target(ref, opts.Insecure)
	if err != nil {
		return "", err
	}
	d, err := l.find(tag)
	if err != nil {
		return "", err
	}
	referrers, err := l.closure(d)
	if err != nil {
		return "", err
	}
	meter, err := newMeter(l, append([]v1.Descriptor{d}, referrers...), opts.Progress)
	if err != nil {
		return "", err
	}
	timeout := cmp.Or(opts.Timeout, PushTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, timeoutError(timeout))
	defer cancel()
	transport := newTransport(opts.Insecure)
	defer transport.base.CloseIdleConnections()
	p := &push{layout: &Layout{dir: l.dir, meter: meter}, repository: target.Context()}
	err = p.send(ctx, transport, d, referrers, target)
	meter.end(err == nil)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return "", &RegistryError{Host: target.RegistryStr(), Ref: ref, Err: err}
	}
	return d.Digest.String(), nil
}

// target reads a reference with host and tag, nothing of it left to guess.
func target(ref string, insecure bool) (name.Tag, error) {
	options := []name.Option{name.StrictValidation}
	if insecure {
		options = append(options, name.Insecure)
	}
	tag, err := name.NewTag(ref, options...)
	if err != nil {
		return name.Tag{}, fmt.Errorf("pushing to %q: want host[:port]/repository:tag: %w", ref, err)
	}
	if insecure && !loopback(tag.RegistryStr()) {
		return name.Tag{}, &PlainHTTPError{Host: tag.RegistryStr(), Insecure: true}
	}
	return tag, nil
}

// loopback reports whether host, perhaps with port, is this machine.
func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

type push struct {
	layout     *Layout
	repository name.Repository
	pusher     *remote.Pusher
}

// send does the three steps in their order.
func (p *push) send(ctx context.Context, transport http.RoundTripper, d v1.Descriptor, referrers []v1.Descriptor, tag name.Tag) (err error) {
	p.pusher, err = remote.NewPusher(
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithUserAgent("sluice"),
		remote.WithTransport(transport),
		remote.WithRetryBackoff(remote.Backoff{Duration: 300 * time.Millisecond, Factor: 3, Jitter: 0.1, Steps: 3}),
		remote.WithRetryPredicate(mayPass),
	)
	if err != nil {
		return err
	}
	var image remote.Taggable
	if d.MediaType.IsIndex() {
		image, err = p.layout.openIndex(d)
	} else {
		image, err = p.layout.openImage(d)
	}
	if err != nil {
		return err
	}
	if err := p.pusher.Push(ctx, p.repository.Digest(d.Digest.String()), image); err != nil {
		return fmt.Errorf("sending the image: %w", err)
	}
	// One after the other: with the fallback tag each one rewrites a list.
	for _, r := range referrers {
		if err := p.sendReferrer(ctx, r); err != nil {
			return fmt.Errorf("sending the referrer %s: %w", r.ArtifactType, err)
		}
	}
	if err := p.pusher.Push(ctx, tag, image); err != nil {
		return fmt.Errorf("setting the tag: %w", err)
	}
	return nil
}

// sendReferrer always sends the manifest, even if the registry has it: a push
// that was cut off may not have entered it into the fallback list.
func (p *push) sendReferrer(ctx context.Context, d v1.Descriptor) error {
	img, err := p.layout.openImage(d)
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	config, err := partial.ConfigLayer(img)
	if err != nil {
		return err
	}
	for _, layer := range append(layers, config) {
		if err := p.pusher.Upload(ctx, p.repository, layer); err != nil {
			return err
		}
	}
	return p.pusher.Put(ctx, p.repository.Digest(d.Digest.String()), img)
}
