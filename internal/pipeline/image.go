package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/image"
)

// Image assembles the multi-arch image from the stripped Linux binaries.
type Image struct {
	Job
	Build *Build

	Index  v1.ImageIndex
	Digest string // "sha256:<hex>" of the index
}

func (*Image) String() string { return "image" }

// Run builds the image in memory; it is written when it is published.
func (s *Image) Run(context.Context) (string, error) {
	cfg := image.Config{
		Name: s.Config.Name, Version: s.Version, Commit: s.Commit,
		Args: s.Config.Service.Args, Env: s.Config.Service.Env, Port: s.Config.Service.Port,
	}
	var platforms []string
	for _, b := range s.Build.Binaries {
		if b.Platform.OS == "linux" {
			cfg.Binaries = append(cfg.Binaries, image.Binary{Platform: b.Platform.String(), Path: b.Path})
			platforms = append(platforms, b.Platform.Arch)
		}
	}
	if len(cfg.Binaries) == 0 {
		return "", fmt.Errorf("no Linux platform in build.platforms (%s): an image needs one", strings.Join(s.Config.Build.Platforms, ", "))
	}
	index, err := image.Build(cfg)
	if err != nil {
		return "", err
	}
	digest, err := index.Digest()
	if err != nil {
		return "", fmt.Errorf("computing the image digest: %w", err)
	}
	s.Index, s.Digest = index, digest.String()
	return fmt.Sprintf("%.12s for linux %s", digest.Hex, strings.Join(platforms, ", ")), nil
}

// of is the digest of the image of one platform; false if it is not in the image.
func (s *Image) of(p build.Platform) (string, bool) {
	index, err := s.Index.IndexManifest()
	if err != nil {
		return "", false
	}
	if p.Arch == "arm" {
		p.Variant = cmp.Or(p.Variant, "v7") // as the image names it
	}
	for _, m := range index.Manifests {
		if m.Platform != nil && m.Platform.OS == p.OS && m.Platform.Architecture == p.Arch && m.Platform.Variant == p.Variant {
			return m.Digest.String(), true
		}
	}
	return "", false
}
