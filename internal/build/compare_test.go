package build

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// tiny is a program for which every platform is compiled quickly.
var tiny = map[string]string{
	"go.mod":  "module example.org/tiny\n\ngo 1.24\n",
	"main.go": "package main\n\nvar version string\n\nfunc main() { println(version) }\n",
}

func TestCompareNamesTheSection(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, tiny)
	o := Options{Dir: dir, Main: ".", Name: "tiny", Version: "v1.0.0", OutDir: t.TempDir(), Platforms: []Platform{
		{"linux", "amd64", ""}, {"darwin", "arm64", ""}, {"windows", "amd64", ""},
	}}
	first, err := Compile(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	o.Version, o.OutDir = "v1.0.1", t.TempDir()
	second, err := Compile(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{".", "__", "."} {
		err := compare(first[i], second[i].Path, nil, nil)
		var mismatch *NotReproducibleError
		if !errors.As(err, &mismatch) || !strings.HasPrefix(mismatch.Section, want) || mismatch.Platform != o.Platforms[i] {
			t.Errorf("%s: got %v, section %+v", o.Platforms[i], err, mismatch)
		}
		if err := compare(first[i], first[i].Path, nil, nil); err != nil {
			t.Errorf("a file differs from itself: %v", err)
		}
	}
}

func TestCause(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, tiny)
	o := Options{Dir: dir, Main: ".", Name: "tiny", Version: "v1.0.0", OutDir: t.TempDir(), Platforms: []Platform{Native()}}
	plain, err := Compile(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	o.Tags, o.OutDir = []string{"special"}, t.TempDir()
	tagged, err := Compile(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		again   string
		content string
		want    string
	}{
		"other tags":                {tagged[0].Path, "", `build setting -tags is "", then "special"`},
		"the path of the checkout":  {plain[0].Path, "x/home/somebody/svc/main.go", "the path /home/somebody/svc is in the binary"},
		"nothing that can be named": {plain[0].Path, "", "a source or embedded file changed"},
	} {
		t.Run(name, func(t *testing.T) {
			got := cause(plain[0], tt.again, []byte(tt.content), nil, []string{"/home/somebody/svc"})
			if !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if err := compare(plain[0], dir+"/none", nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestBudgetNamesEveryBinary(t *testing.T) {
	b := &builder{Options: Options{Name: "app", BudgetBytes: 10}}
	err := b.withinBudget([]Binary{
		{Platform: Platform{"linux", "amd64", ""}, SizeBytes: 11},
		{Platform: Platform{"linux", "arm64", ""}, SizeBytes: 10},
		{Platform: Platform{"windows", "amd64", ""}, SizeBytes: 12},
	})
	want := "app for linux/amd64 has 11 bytes, 1 over the budget of 10\napp for windows/amd64 has 12 bytes, 2 over the budget of 10"
	var budget *BudgetError
	if err == nil || err.Error() != want || !errors.As(err, &budget) || budget.BudgetBytes != 10 {
		t.Errorf("got %v", err)
	}
}
