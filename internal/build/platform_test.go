package build

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePlatform(t *testing.T) {
	for in, want := range map[string]struct{ text, dir string }{
		"linux/amd64":     {"linux/amd64", "linux_amd64"},
		"linux/arm64":     {"linux/arm64", "linux_arm64"},
		"linux/arm64/v8":  {"linux/arm64", "linux_arm64"},
		"linux/arm":       {"linux/arm/v7", "linux_arm"},
		"linux/arm/v7":    {"linux/arm/v7", "linux_arm"},
		"linux/arm/v6":    {"linux/arm/v6", "linux_armv6"},
		"windows/arm64":   {"windows/arm64", "windows_arm64"},
		"plan9/amd64":     {},
		"windows/arm":     {},
		"linux":           {},
		"":                {},
		"linux/amd64/v3":  {},
		"Linux/amd64":     {},
		"linux/arm/v7/v7": {},
	} {
		t.Run(in, func(t *testing.T) {
			p, err := ParsePlatform(in)
			if want.text == "" {
				var unknown *UnknownPlatformError
				if !errors.As(err, &unknown) || unknown.Name != in || len(unknown.Known) < 8 {
					t.Fatalf("got %v, %v, want an *UnknownPlatformError", p, err)
				}
				return
			}
			if err != nil || p.String() != want.text || p.Dir() != want.dir {
				t.Fatalf("got %s, %s, %v, want %v", p, p.Dir(), err, want)
			}
		})
	}
}

func TestDefaultPlatforms(t *testing.T) {
	var got, dirs []string
	seen := map[string]bool{}
	for _, p := range DefaultPlatforms() {
		got, dirs = append(got, p.String()), append(dirs, p.Dir())
		seen[p.Dir()] = true
	}
	want := []string{
		"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/riscv64",
		"darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(seen) != len(want) {
		t.Errorf("directories are not distinct: %v", dirs)
	}
}

func TestBinaryAsJSON(t *testing.T) {
	in := Binary{Platform: Platform{"linux", "arm", "v7"}, Path: "bin/linux_arm/app", Digest: "sha256:00", SizeBytes: 7}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"platform":"linux/arm/v7","path":"bin/linux_arm/app","digest":"sha256:00","size_bytes":7}`
	if string(text) != want {
		t.Errorf("got %s, want %s", text, want)
	}
	var out Binary
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, out); diff != "" {
		t.Error(diff)
	}
	if err := json.Unmarshal([]byte(`{"platform":"linux/z80"}`), &out); err == nil {
		t.Error("an unknown platform was accepted")
	}
}

func FuzzParsePlatform(f *testing.F) {
	for _, p := range known {
		f.Add(p.String())
	}
	f.Add("linux/arm64/v8")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePlatform(s)
		if err != nil {
			return
		}
		again, err := ParsePlatform(p.String())
		if err != nil || again != p {
			t.Errorf("%q is read as %v, and that as %v, %v", s, p, again, err)
		}
	})
}
