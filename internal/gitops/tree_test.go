package gitops

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// TestTreesAreEncodedAsGitDoes compares with git mktree, whose order of names is
// not that of their bytes.
func TestTreesAreEncodedAsGitDoes(t *testing.T) {
	s := serve(t)
	blob := plumbing.NewHash(strings.Repeat("1", 40))
	sub := plumbing.NewHash(strings.Repeat("2", 40))
	list := []item{
		{"a0", spot{"100644", blob}},
		{"a", spot{"40000", sub}},
		{"a-b", spot{"120000", blob}},
		{"a.b", spot{"100755", blob}},
		{"Z", spot{"160000", sub}},
		{"é", spot{"100644", blob}},
		{"a b", spot{"100644", blob}},
		{"ab", spot{"40000", sub}},
	}
	var lines strings.Builder
	for _, i := range list {
		kind := map[string]string{"40000": "tree", "160000": "commit"}[i.mode]
		if kind == "" {
			kind = "blob"
		}
		fmt.Fprintf(&lines, "%06s %s %s\t%s\x00", i.mode, kind, i.hash, i.name)
	}
	want := strings.TrimSpace(s.gitWith(lines.String(), "mktree", "--missing", "-z"))
	if got := newObject(plumbing.TreeObject, encode(list)).Hash().String(); got != want {
		t.Errorf("the tree is %s, git says %s", got, want)
	}
}

func FuzzItems(f *testing.F) {
	f.Add([]byte("40000 a\x00" + strings.Repeat("h", 20) + "100644 b\x00" + strings.Repeat("i", 20)))
	f.Add([]byte("100644 b\x00short"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := items(raw)
		if err != nil {
			return
		}
		size := 0
		for _, i := range list {
			size += len(i.mode) + 1 + len(i.name) + 1 + 20
		}
		if size != len(raw) {
			t.Fatalf("%d bytes of %d were read", size, len(raw))
		}
		again := encode(list)
		if back, err := items(again); err != nil || len(back) != len(list) || !bytes.Equal(encode(back), again) {
			t.Fatalf("what is encoded is not what is read: %v", err)
		}
	})
}
