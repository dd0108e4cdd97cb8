package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestArchivesAreThoseOfTheMachine(t *testing.T) {
	for name, tt := range map[string]struct {
		targets string
		want    archives
	}{
		"a mirror":           {"Debian Backports|http://wrong/\nDebian|http://mirror/debian/\nDebian-Security|http://mirror/security/\n", archives{main: "http://mirror/debian/", security: "http://mirror/security/"}},
		"no security":        {"Debian|https://mirror/debian/\n", archives{main: "https://mirror/debian/"}},
		"another system":     {"Ubuntu|http://mirror/ubuntu/\n", archives{}},
		"nothing configured": {"", archives{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := parseTargets(tt.targets); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestSourcesAreSignedAndHaveSecurityWhereThereIsOne(t *testing.T) {
	a := archives{main: "http://mirror/debian/", security: "http://mirror/security/", keyring: "/keys.gpg"}
	for suite, want := range map[string]string{
		"trixie": "deb [arch=amd64 signed-by=/keys.gpg] http://mirror/debian/ trixie main\ndeb [arch=amd64 signed-by=/keys.gpg] http://mirror/security/ trixie-security main\n",
		"sid":    "deb [arch=amd64 signed-by=/keys.gpg] http://mirror/debian/ sid main\n",
	} {
		if got := a.sources(suite); got != want {
			t.Errorf("%s: got\n%swant\n%s", suite, got, want)
		}
	}
}

func TestTheKernelIsFoundBehindTheMetapackage(t *testing.T) {
	for name, tt := range map[string]struct {
		depends string
		want    []string
	}{
		"one package":   {"linux-image-5.10.0-46-cloud-amd64 (= 5.10.262-1)", []string{"linux-image-5.10.0-46-cloud-amd64"}},
		"with a base":   {"linux-base-cloud-amd64 (= 7.2.13-1), linux-image-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)", []string{"linux-image-7.2.13+deb14-cloud-amd64"}},
		"split in two":  {"dracut | initramfs-tools (>= 0.120+deb8u2), linux-base-7.2.13+deb14-cloud-amd64 (= 7.2.13-1), linux-binary-7.2.13+deb14-cloud-amd64 (= 7.2.13-1), linux-modules-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)", []string{"linux-binary-7.2.13+deb14-cloud-amd64"}},
		"nothing of it": {"kmod, linux-base (>= 4.3~)", nil},
	} {
		t.Run(name, func(t *testing.T) {
			record := "Package: x\nVersion: 1\nDepends: " + tt.depends + "\n"
			if got := kernelPackage.FindAllString(field(record, "Depends"), -1); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTheNewestCompleteKernelIsTaken(t *testing.T) {
	dir := t.TempDir()
	if _, err := newest(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := newest(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
	for _, name := range []string{"6.12.9-1", "6.12.117-1", "6.12.20-2", "6.12.118-1" + partial} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := image{file: filepath.Join(dir, "6.12.117-1"), version: "6.12.117-1"}
	if got, err := newest(dir); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}
