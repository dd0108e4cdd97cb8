package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/pipeline"
)

// sinceBase returns the SBOMs of the service as it was where this branch began,
// and as it is now. Both are made from source in a folder that is gone
// afterwards.
func sinceBase(ctx context.Context, file, ref string, p *progress) (docs [2][]byte, err error) {
	file, err = filepath.Abs(file)
	if err != nil {
		return docs, fmt.Errorf("finding the configuration: %w", err)
	}
	dir, err := os.MkdirTemp("", "sluice-base-*")
	if err != nil {
		return docs, fmt.Errorf("making a folder for the base: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	source := filepath.Join(dir, "source")
	old, err := exportBase(ctx, file, ref, source)
	if err != nil {
		return docs, err
	}
	for i, side := range []struct{ name, file string }{{"base", old}, {"now", file}} {
		docs[i], err = inventoryOf(ctx, side.file, filepath.Join(dir, "out-"+side.name), p)
		var wrong *config.Error
		if errors.As(err, &wrong) {
			wrong.File = strings.TrimPrefix(wrong.File, source+"/") // which is gone by the time that somebody looks
		}
		if err != nil {
			return docs, fmt.Errorf("%s: %w", side.name, err)
		}
	}
	return docs, nil
}

// exportBase writes the commit where HEAD and ref parted into a folder, and
// returns where the configuration is there.
func exportBase(ctx context.Context, file, ref, to string) (string, error) {
	from := filepath.Dir(file)
	top := git(ctx, from, "rev-parse", "--show-toplevel")
	if top == "" {
		return "", fmt.Errorf("--base %s: %s is in no git repository", ref, from)
	}
	commit := git(ctx, from, "merge-base", "--end-of-options", "HEAD", ref)
	if commit == "" {
		return "", &advised{
			fmt.Errorf("--base %s: there is no such commit, or nothing that it has in common with HEAD", ref),
			"fetch it, with its history: git fetch --unshallow origin, or fetch-depth: 0 for actions/checkout",
		}
	}
	rel, err := filepath.Rel(top, file)
	if err != nil {
		return "", fmt.Errorf("--base %s: %w", ref, err)
	}
	if err := export(ctx, top, commit, to); err != nil {
		return "", fmt.Errorf("--base %s: %w", ref, err)
	}
	old := filepath.Join(to, rel)
	if _, err := os.Stat(old); err != nil {
		return "", fmt.Errorf("--base %s: commit %.12s has no %s to compare with", ref, commit, rel)
	}
	return old, nil
}

// export writes the files of a commit, and nothing outside of the folder.
func export(ctx context.Context, repository, commit, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	cmd := exec.CommandContext(ctx, "git", "-C", repository, "archive", "--format=tar", commit)
	var said strings.Builder
	cmd.Stderr = &said
	stream, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting git archive: %w", err)
	}
	unpackErr := unpack(root, stream)
	_, _ = io.Copy(io.Discard, stream) // or git waits for us
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("git archive: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return unpackErr
}

func unpack(root *os.Root, stream io.Reader) error {
	for r := tar.NewReader(stream); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the archive of git: %w", err)
		}
		switch name := filepath.Clean(h.Name); h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeSymlink:
			err = root.Symlink(h.Linkname, name)
		case tar.TypeReg:
			err = unpackFile(root, name, os.FileMode(h.Mode).Perm(), r)
		}
		if err != nil {
			return err
		}
	}
}

func unpackFile(root *os.Root, name string, mode os.FileMode, content io.Reader) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// inventoryOf makes the SBOM of the service for one platform: what it consists
// of hardly depends on that, and a diff is wanted in a minute.
func inventoryOf(ctx context.Context, file, out string, p *progress) ([]byte, error) {
	cfg, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	for _, name := range cfg.Build.Platforms {
		if strings.HasPrefix(name, "linux/") {
			cfg.Build.Platforms = []string{name}
			break
		}
	}
	cfg.Pack.UPX, cfg.Build.Budget = "off", 0
	steps, _ := pipeline.Until(pipeline.Release(pipeline.Job{Config: cfg, Out: out, Version: "v0.0.0", Note: p.noting()}), "sbom")
	if err := pipeline.Run(ctx, steps, p.event); err != nil {
		return nil, err
	}
	docs, ok := pipeline.Made(steps[len(steps)-1]).([]pipeline.Inventory)
	if !ok || len(docs) == 0 {
		return nil, errors.New("no SBOM was made")
	}
	return readFile("SBOM", docs[0].CycloneDX, 64<<20)
}
