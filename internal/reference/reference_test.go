package reference_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/reference"
)

func ExampleParse() {
	i := reference.Parse("registry.example.com:5000/team/shop:1.2.0@sha256:0123")
	fmt.Println(i.Repository, i.Tag, i.Digest)
	// Output: registry.example.com:5000/team/shop 1.2.0 sha256:0123
}

func TestParse(t *testing.T) {
	for ref, want := range map[string]reference.Image{
		"shop":                         {Repository: "shop"},
		"shop:1.2.0":                   {Repository: "shop", Tag: "1.2.0"},
		"localhost:5000/shop":          {Repository: "localhost:5000/shop"},
		"localhost:5000/shop@sha256:a": {Repository: "localhost:5000/shop", Digest: "sha256:a"},
		"a/b/shop:1@sha256:a":          {Repository: "a/b/shop", Tag: "1", Digest: "sha256:a"},
		"sha256:a":                     {Digest: "sha256:a"},
		"shop:1@md5:a":                 {Repository: "shop", Tag: "1"},
		"shop:1@sha256:":               {Repository: "shop", Tag: "1"},
		"shop@":                        {Repository: "shop"},
		"":                             {},
	} {
		if got := reference.Parse(ref); got != want {
			t.Errorf("%q: got %+v, want %+v", ref, got, want)
		}
	}
}

func TestSame(t *testing.T) {
	for name, tt := range map[string]struct {
		a, b string
		want bool
	}{
		"another tag of it":      {"shop:1@sha256:a", "shop:2@sha256:a", true},
		"a copy of it":           {"shop:1@sha256:a", "mirror/shop@sha256:a", true},
		"its digest":             {"shop:1@sha256:a", "sha256:a", true},
		"another one":            {"shop:1@sha256:a", "shop:1@sha256:b", false},
		"two tags are no digest": {"shop:1", "shop:1", false},
		"nothing":                {"", "", false},
	} {
		if got := reference.Same(tt.a, tt.b); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a:5000/b:c@sha256:d")
	f.Fuzz(func(t *testing.T, ref string) {
		i := reference.Parse(ref)
		again := i.Repository
		if i.Tag != "" {
			again += ":" + i.Tag
		}
		if i.Digest != "" {
			again = strings.TrimPrefix(again+"@"+i.Digest, "@")
		}
		if got := reference.Parse(again); got != i {
			t.Errorf("%q is %+v, and %q is %+v", ref, i, again, got)
		}
	})
}
