package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kernel is one that Debian offers.
type kernel struct{ name, suite string }

// kernels are those that are tried: one for each Debian release, the oldest of
// which has the oldest kernel that Sluice promises to run on.
var kernels = []kernel{
	{"5.10", "bullseye"},
	{"6.1", "bookworm"},
	{"6.12", "trixie"},
	{"newest", "sid"},
}

// image is a kernel that can be booted.
type image struct {
	file    string
	version string // of the Debian package: 5.10.262-1
}

// archives are the package archives that this machine is configured for.
type archives struct {
	main, security string // addresses; security may be empty
	keyring        string
}

// configured asks apt for the archives of this machine, so that a mirror is used
// where one is configured.
func configured(ctx context.Context) (archives, error) {
	const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	out, err := output(exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"))
	if err != nil {
		return archives{}, fmt.Errorf("asking apt for the Debian mirror: %w", err)
	}
	a := parseTargets(out)
	a.keyring = keyring
	if a.main == "" {
		return a, errors.New("apt knows no Debian mirror, and kernels come from Debian's packages: run this on Debian, after apt-get update")
	}
	return a, nil
}

// parseTargets reads lines of "label|address".
func parseTargets(lines string) (a archives) {
	for line := range strings.Lines(lines) {
		label, address, _ := strings.Cut(strings.TrimSpace(line), "|")
		switch label {
		case "Debian":
			a.main = address
		case "Debian-Security":
			a.security = address
		}
	}
	return a
}

// sources is the list of sources for one suite.
func (a archives) sources(suite string) string {
	lines := fmt.Sprintf("deb [arch=amd64 signed-by=%s] %s %s main\n", a.keyring, a.main, suite)
	if a.security != "" && suite != "sid" { // which has no security archive
		lines += fmt.Sprintf("deb [arch=amd64 signed-by=%s] %s %s-security main\n", a.keyring, a.security, suite)
	}
	return lines
}

// fetch downloads the kernel of a suite into dir, as a file named by its version,
// if it is not there. apt verifies signatures and digests as for any package, with
// lists and sources of its own: those of the machine are not touched, nothing is
// installed, and no privileges are needed.
func fetch(ctx context.Context, suite, dir string) (err error) {
	a, err := configured(ctx)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "sluice-kernels-")
	if err != nil {
		return fmt.Errorf("making a folder for packages: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	apt, err := newApt(tmp, a.sources(suite))
	if err != nil {
		return err
	}
	if _, err := apt.run(ctx, "apt-get", "update", "-qq"); err != nil {
		return err
	}
	version, packages, err := apt.kernel(ctx)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, version)
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	if _, err := apt.run(ctx, "apt-get", append([]string{"download", "-qq"}, packages...)...); err != nil {
		return err
	}
	return unpack(ctx, tmp, file)
}

// unpack takes the kernel out of the packages in a folder.
func unpack(ctx context.Context, from, file string) error {
	root := filepath.Join(from, "root")
	debs, err := filepath.Glob(filepath.Join(from, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if _, err := output(exec.CommandContext(ctx, "dpkg-deb", "-x", deb, root)); err != nil {
			return fmt.Errorf("unpacking %s: %w", filepath.Base(deb), err)
		}
	}
	var found []string
	for _, place := range []string{"boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"} { // before and since Linux 7
		match, err := filepath.Glob(filepath.Join(root, place))
		if err != nil {
			return err
		}
		found = append(found, match...)
	}
	if len(found) != 1 {
		return fmt.Errorf("the packages %v have %d kernels, expected 1", debs, len(found))
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		return fmt.Errorf("reading the kernel: %w", err)
	}
	return keep(file, data)
}

// keep writes a file that is there only when it is complete.
func keep(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("making a folder for the kernel: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), "*"+partial)
	if err != nil {
		return fmt.Errorf("keeping the kernel: %w", err)
	}
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keeping the kernel: %w", err), os.Remove(tmp.Name()))
	}
	return nil
}
