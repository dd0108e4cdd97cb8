package release

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // SHA-256 of "abc"

func sample() Release {
	return Release{
		Name: "shop", Version: "v1.2.3", Commit: "0123abcd", Image: "sha256:" + abc,
		Artifacts: []Artifact{
			{Platform: "linux/arm64", File: File{Path: "bin/linux_arm64/shop", SHA256: abc, SizeBytes: 3}},
			{
				Platform: "linux/amd64", File: File{Path: "bin/linux_amd64/shop", SHA256: abc, SizeBytes: 3},
				Packed: &File{Path: "bin/linux_amd64/shop.upx", SHA256: abc, SizeBytes: 3},
			},
		},
		SBOMs:  []File{{Path: "sbom/probe.cdx.json", SHA256: abc, SizeBytes: 3}, {Path: "sbom/linux_amd64.cdx.json", SHA256: abc, SizeBytes: 3}},
		Object: &File{Path: "bpf/probe.bpf.o", SHA256: abc, SizeBytes: 3},
		Args:   []string{"-greeting=<b>&"}, Env: map[string]string{"B": "2", "A": "1"},
	}
}

func TestEncodingIsCanonical(t *testing.T) {
	r := sample()
	want, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if r.Artifacts[0].Platform != "linux/arm64" {
		t.Error("Encode has reordered the caller's own list")
	}
	r.Artifacts[0], r.Artifacts[1] = r.Artifacts[1], r.Artifacts[0]
	r.SBOMs[0], r.SBOMs[1] = r.SBOMs[1], r.SBOMs[0]
	got, err := r.Encode()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("another order of the lists gives other bytes (%v):\n%s", err, cmp.Diff(string(want), string(got)))
	}
	back, err := Decode(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, back); diff != "" {
		t.Errorf("decoded release differs (-want +got):\n%s", diff)
	}
	d1, _ := sample().Digest()
	r.Env["A"] = "changed"
	if d2, _ := r.Digest(); d1 == d2 || !strings.HasPrefix(d1, "sha256:") || len(d1) != 71 {
		t.Errorf("digests %s and %s", d1, d2)
	}
}

func TestRulesOfARelease(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Release)
		want   string
	}{
		"a version with two numbers":           {func(r *Release) { r.Version = "v1.2" }, `version "v1.2"`},
		"a version with a leading zero":        {func(r *Release) { r.Version = "1.02.0" }, `version "1.02.0"`},
		"a version that is a path":             {func(r *Release) { r.Version = "1.2.3/../x" }, "version"},
		"a name of several lines":              {func(r *Release) { r.Name = "a\nb" }, "control characters"},
		"no artifacts":                         {func(r *Release) { r.Artifacts = nil }, "no artifacts"},
		"a platform twice":                     {func(r *Release) { r.Artifacts[0].Platform = "linux/amd64" }, "platform linux/amd64 is there twice"},
		"a path twice":                         {func(r *Release) { r.SBOMs[0].Path = r.Object.Path }, "is there twice"},
		"a path that leaves the directory":     {func(r *Release) { r.Object.Path = "bpf/../../x" }, "not a clean path"},
		"an absolute path":                     {func(r *Release) { r.Object.Path = "/etc/passwd" }, "not a clean path"},
		"a path with a backslash":              {func(r *Release) { r.Object.Path = `bpf\probe` }, "not a clean path"},
		"an empty path":                        {func(r *Release) { r.Object.Path = "" }, "not a clean path"},
		"a digest in capitals":                 {func(r *Release) { r.Object.SHA256 = strings.ToUpper(abc) }, "64 hexadecimal"},
		"a short digest":                       {func(r *Release) { r.SBOMs[0].SHA256 = abc[1:] }, "64 hexadecimal"},
		"an image without an algorithm":        {func(r *Release) { r.Image = abc }, "image"},
		"a negative size":                      {func(r *Release) { r.Artifacts[0].SizeBytes = -1 }, "negative"},
		"an environment variable with = in it": {func(r *Release) { r.Env["A=B"] = "" }, "cannot be set"},
		"an argument that is not UTF-8":        {func(r *Release) { r.Args[0] = "\xff" }, "not UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			r := sample()
			tt.change(&r)
			_, err := r.Encode()
			if invalid, ok := errors.AsType[*InvalidError](err); !ok || !strings.Contains(invalid.Error(), tt.want) {
				t.Errorf("got %v, want a problem with %q", err, tt.want)
			}
		})
	}
}

func TestAllProblemsComeTogether(t *testing.T) {
	r := sample()
	r.Version, r.Image, r.Object.Path = "x", "y", ".."
	_, err := r.Encode()
	if invalid, ok := errors.AsType[*InvalidError](err); !ok || len(invalid.Problems) != 3 {
		t.Errorf("got %v, want three problems", err)
	}
}

func TestDecodingIsStrict(t *testing.T) {
	raw, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for name, in := range map[string]string{
		"nothing":              "",
		"not JSON":             "version: 1",
		"another type":         "[]",
		"an unknown field":     strings.Replace(text, `"name"`, `"nickname": "x", "name"`, 1),
		"a field twice":        strings.Replace(text, `"name": "shop"`, `"name": "x", "name": "shop"`, 1),
		"another capital":      strings.Replace(text, `"name"`, `"Name"`, 1),
		"other white space":    strings.Replace(text, "\n", "\n\n", 1),
		"no final line feed":   strings.TrimSuffix(text, "\n"),
		"a second value":       text + "{}",
		"a broken rule":        strings.Replace(text, "v1.2.3", "v1", 1),
		"unsorted artifacts":   strings.NewReplacer("linux/amd64", "linux/zz").Replace(text),
		"the first half of it": text[:len(text)/2],
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := Decode([]byte(in)); err == nil {
				t.Errorf("was accepted as %+v", r)
			}
		})
	}
}

func TestASavedReleaseNeverChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "release.json")
	want, err := Save(path, sample())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Save(path, sample()); err != nil || again != want {
		t.Errorf("the same release again: %s, %v", again, err)
	}
	other := sample()
	other.Commit = "ffff"
	_, err = Save(path, other)
	if exists, ok := errors.AsType[*ExistsError](err); !ok || exists.Have != want || exists.Hint() == "" {
		t.Errorf("another release under the same name: %v", err)
	}
	r, digest, err := Load(path)
	if err != nil || digest != want || r.Commit != sample().Commit {
		t.Errorf("loaded %+v, %s, %v", r, digest, err)
	}
	left, _ := os.ReadDir(filepath.Dir(path))
	if len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := Save(filepath.Join(path, "x"), sample()); err == nil {
		t.Error("saving below a file was accepted")
	}
}

func TestVerifyFiles(t *testing.T) {
	r := sample()
	for name, tt := range map[string]struct {
		harm func(dir string) error
		want string
	}{
		"all as released":  {func(string) error { return nil }, ""},
		"a changed byte":   {func(d string) error { return os.WriteFile(filepath.Join(d, r.Object.Path), []byte("abd"), 0o600) }, "not the released file"},
		"a missing file":   {func(d string) error { return os.Remove(filepath.Join(d, r.Object.Path)) }, "no such file"},
		"a link elsewhere": {func(d string) error { return relink(filepath.Join(d, r.Object.Path), "/etc/passwd") }, "escapes"},
		"a directory": {func(d string) error {
			p := filepath.Join(d, r.Object.Path)
			return errors.Join(os.Remove(p), os.Mkdir(p, 0o700))
		}, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range r.Files() {
				p := filepath.Join(dir, f.Path)
				if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte("abc"), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			if err := tt.harm(dir); err != nil {
				t.Fatal(err)
			}
			if err := r.VerifyFiles(dir); (err == nil) != (tt.want == "") || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func relink(path, target string) error {
	return errors.Join(os.Remove(path), os.Symlink(target, path))
}

func FuzzDecode(f *testing.F) {
	raw, _ := sample().Encode()
	f.Add(raw)
	f.Add([]byte(`{"name":"a","version":"1.0.0-rc.1+b","artifacts":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := Decode(raw)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("accepted, but encodes to other bytes (%v):\n%s", err, again)
		}
		for _, file := range r.Files() {
			if !filepath.IsLocal(file.Path) {
				t.Fatalf("accepted the path %q", file.Path)
			}
		}
	})
}
