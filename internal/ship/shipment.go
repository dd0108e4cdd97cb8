package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/image"
)

// A program is what an image holds.
type program struct {
	name string // of binary and image
	main string // package, in whichever module it is
	port int
}

// The probe's object is built into its binary, so that one digest names both. A
// container of it has to run as user 0: capabilities mean nothing to others.
var programs = []program{
	{name: "sluice-argo", main: "./deploy/argocd"},
	{name: "sluice-probe", main: "./cmd/sluice-probe", port: 9640},
}

func names() (list []string) {
	for _, p := range programs {
		list = append(list, p.name)
	}
	return list
}

// A shipment is what to make and where to put it.
type shipment struct {
	dir, out, version string
	registry          string // "" for none
	insecure          bool
	ca                string // file with more authorities; "": none
	platforms         []build.Platform
	programs          []program
	most              int64 // bytes that an image may have for one platform
	wrong             error // with the flags
}

// Made is an image that was made.
type Made struct {
	Name      string   `json:"name"`
	Digest    string   `json:"digest"`        // of the index
	Ref       string   `json:"ref,omitempty"` // what to write into a manifest, when it was pushed
	Platforms []string `json:"platforms"`
	Bytes     int64    `json:"bytes"`        // what a node downloads, the largest of the platforms
	Binary    int64    `json:"binary_bytes"` // the program unpacked, the largest of the platforms
}

// run makes the images, writes them into the layout and pushes them.
func (s shipment) run(ctx context.Context) ([]Made, error) {
	if s.wrong != nil {
		return nil, s.wrong
	}
	layout, err := image.OpenLayout(s.out)
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "sluice-ship-")
	if err != nil {
		return nil, fmt.Errorf("making a folder to build in: %w", err)
	}
	defer os.RemoveAll(work)
	authorities, err := s.authorities(work)
	if err != nil {
		return nil, err
	}
	list := []Made{}
	for _, p := range s.programs {
		m, err := s.one(ctx, layout, work, p, authorities)
		if err != nil {
			return list, fmt.Errorf("%s: %w", p.name, err)
		}
		list = append(list, m)
	}
	return list, nil
}

// authorities is a file with those of this machine and the additional ones; ""
// stands for those of this machine.
func (s shipment) authorities(work string) (string, error) {
	if s.ca == "" {
		return "", nil
	}
	bundle, _, err := image.CABundle("")
	if err != nil {
		return "", err
	}
	more, _, err := image.CABundle(s.ca)
	if err != nil {
		return "", err
	}
	file := filepath.Join(work, "ca.crt")
	if err := os.WriteFile(file, append(bundle, more...), 0o644); err != nil {
		return "", fmt.Errorf("collecting certificate authorities: %w", err)
	}
	return file, nil
}

// one builds a program, makes its image and takes it where it belongs.
func (s shipment) one(ctx context.Context, layout *image.Layout, work string, p program, authorities string) (Made, error) {
	m := Made{Name: p.name}
	binaries, err := build.Compile(ctx, build.Options{
		Dir: s.dir, Main: p.main, Name: p.name, Version: s.version, Platforms: s.platforms, OutDir: filepath.Join(work, p.name),
	}, nil)
	if err != nil {
		return m, err
	}
	cfg := image.Config{Name: p.name, Version: s.version, Port: p.port, CACerts: authorities}
	for _, b := range binaries {
		cfg.Binaries = append(cfg.Binaries, image.Binary{Platform: b.Platform.String(), Path: b.Path})
		m.Platforms = append(m.Platforms, b.Platform.String())
		m.Binary = max(m.Binary, b.SizeBytes)
	}
	index, err := image.Build(cfg)
	if err != nil {
		return m, err
	}
	if m.Bytes, err = largest(index); err != nil {
		return m, err
	}
	if m.Bytes > s.most {
		return m, fmt.Errorf("the image has %.1f MiB, more than %.0f", float64(m.Bytes)/(1<<20), float64(s.most)/(1<<20))
	}
	tag := image.TagFor(p.name + "-" + s.version) // one layout has them all
	if m.Digest, err = layout.Write(index, tag); err != nil || s.registry == "" {
		return m, err
	}
	m.Ref = s.registry + "/" + p.name + ":" + image.TagFor(s.version)
	if _, err := image.Push(ctx, layout, tag, m.Ref, image.PushOptions{Insecure: s.insecure}); err != nil {
		return m, err
	}
	m.Ref += "@" + m.Digest
	return m, nil
}

// largest is the size of the layers of one platform, as they are downloaded.
func largest(index v1.ImageIndex) (most int64, err error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return 0, fmt.Errorf("measuring the image: %w", err)
	}
	for _, child := range manifest.Manifests {
		img, err := index.Image(child.Digest)
		if err != nil {
			return 0, fmt.Errorf("measuring the image: %w", err)
		}
		m, err := img.Manifest()
		if err != nil {
			return 0, fmt.Errorf("measuring the image: %w", err)
		}
		size := m.Config.Size
		for _, l := range m.Layers {
			size += l.Size
		}
		most = max(most, size)
	}
	return most, nil
}
