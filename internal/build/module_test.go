package build

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLocateReportsWhatIsDamaged(t *testing.T) {
	for name, tt := range map[string]struct {
		replace map[string]string
		text    string
	}{
		"go.mod":                          {map[string]string{"svc/go.mod": "module example.org/svc\n\nrequire (\n"}, "go.mod"},
		"go.work":                         {map[string]string{"go.work": "use (\n"}, "go.work"},
		"a workspace member without file": {map[string]string{"go.work": "go 1.24\n\nuse ./none\n"}, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			_, o := newService(t, tt.replace)
			if _, err := Inputs(t.Context(), o); err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want %q", err, tt.text)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	root, o := newService(t, map[string]string{
		"svc/plugin/go.mod":   "module example.org/svc/plugin\n\ngo 1.24\n",
		"svc/plugin/p.go":     "package plugin\n",
		"svc/excluded/go.mod": "module example.org/svc/excluded\n\ngo 1.24\n",
		"svc/excluded/e.go":   "package excluded\n",
		"svc/go.mod": service["svc/go.mod"] + "\nrequire example.org/svc/plugin v0.0.0\n\n" +
			"replace example.org/svc/plugin => ./plugin\n\nreplace example.org/absent => ../absent\n\n" +
			"replace example.org/remote => example.org/fork v1.0.0\n",
	})
	o, err := o.complete()
	if err != nil {
		t.Fatal(err)
	}
	l, err := locate(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for path := range map[string]bool{
		"example.org/svc": true, "example.org/svc/internal/text": true, "example.org/lib": true,
		"example.org/svc/plugin": true, "example.org/svc/excluded": true, "example.org/svc/none": true,
		"example.org/svcx": true, "example.org/absent": true, "example.org/remote": true, "fmt": true,
	} {
		if dir := l.resolve(path); dir != "" {
			rel, err := filepath.Rel(root, dir)
			if err != nil {
				t.Fatal(err)
			}
			got[path] = rel
		}
	}
	want := map[string]string{
		"example.org/svc": "svc", "example.org/svc/internal/text": "svc/internal/text",
		"example.org/lib": "lib", "example.org/svc/plugin": "svc/plugin",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
