package gitops

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// spot is what stands at a path: its mode and hash, as a tree has them. The zero
// spot is nothing.
type spot struct {
	mode string // octal, as written: "40000", "100644", "100755", "120000", "160000"
	hash plumbing.Hash
}

func (s spot) none() bool { return s == spot{} }

const treeMode = "40000"

// item is one line of a tree.
type item struct {
	name string
	spot
}

// items reads a tree, keeping every mode as it is written.
func items(raw []byte) ([]item, error) {
	var list []item
	for len(raw) > 0 {
		head, rest, ok := bytes.Cut(raw, []byte{0})
		mode, name, named := strings.Cut(string(head), " ")
		if !ok || !named || len(rest) < 20 {
			return nil, errors.New("a tree that is cut short")
		}
		list = append(list, item{name, spot{mode, plumbing.Hash(rest[:20])}})
		raw = rest[20:]
	}
	return list, nil
}

// encode writes a tree in the order that git demands.
func encode(list []item) []byte {
	key := func(i item) string {
		if strings.TrimLeft(i.mode, "0") == treeMode {
			return i.name + "/"
		}
		return i.name
	}
	slices.SortFunc(list, func(a, b item) int { return strings.Compare(key(a), key(b)) })
	var out bytes.Buffer
	for _, i := range list {
		fmt.Fprintf(&out, "%s %s\x00%s", i.mode, i.name, i.hash[:])
	}
	return out.Bytes()
}

// read returns the content of a tree or commit.
func (r *remote) read(kind plumbing.ObjectType, hash plumbing.Hash) ([]byte, error) {
	o, err := r.store.EncodedObject(kind, hash)
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", kind, hash, err)
	}
	in, err := o.Reader()
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", kind, hash, err)
	}
	defer in.Close()
	return io.ReadAll(in)
}

func (r *remote) tree(hash plumbing.Hash) ([]item, error) {
	raw, err := r.read(plumbing.TreeObject, hash)
	if err != nil {
		return nil, err
	}
	list, err := items(raw)
	if err != nil {
		return nil, fmt.Errorf("reading tree %s: %w", hash, err)
	}
	return list, nil
}

// root is the tree of a commit.
func (r *remote) root(commit plumbing.Hash) (plumbing.Hash, error) {
	c, err := object.GetCommit(r.store, commit)
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("reading commit %s: %w", commit, err)
	}
	return c.TreeHash, nil
}

// parent is the first one, if it was fetched.
func (r *remote) parent(commit plumbing.Hash) (plumbing.Hash, bool) {
	c, err := object.GetCommit(r.store, commit)
	if err != nil || len(c.ParentHashes) == 0 || !r.has(c.ParentHashes[0]) {
		return plumbing.ZeroHash, false
	}
	return c.ParentHashes[0], true
}

// at is what stands at the repository's path in a commit.
func (r *remote) at(commit plumbing.Hash) (spot, error) {
	root, err := r.root(commit)
	if err != nil {
		return spot{}, err
	}
	is := spot{treeMode, root}
	for _, name := range steps(r.repo.Path) {
		if strings.TrimLeft(is.mode, "0") != treeMode {
			return spot{}, nil
		}
		list, err := r.tree(is.hash)
		if err != nil {
			return spot{}, err
		}
		i := slices.IndexFunc(list, func(i item) bool { return i.name == name })
		if i < 0 {
			return spot{}, nil
		}
		is = list[i].spot
	}
	return is, nil
}

func steps(path string) []string {
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

// graft returns the tree that has something else at a path, and the trees that
// are new with it.
func (r *remote) graft(tree plumbing.Hash, path string, to spot) (plumbing.Hash, []plumbing.EncodedObject, error) {
	if path == "" {
		return to.hash, nil, nil
	}
	name, rest, deeper := strings.Cut(path, "/")
	list, err := r.tree(tree)
	if err != nil {
		return plumbing.ZeroHash, nil, err
	}
	i := slices.IndexFunc(list, func(i item) bool { return i.name == name })
	if i < 0 {
		return plumbing.ZeroHash, nil, fmt.Errorf("tree %s has no %s", tree, name)
	}
	var made []plumbing.EncodedObject
	if deeper {
		if list[i].hash, made, err = r.graft(list[i].hash, rest, to); err != nil {
			return plumbing.ZeroHash, nil, err
		}
	} else {
		list[i].spot = to
	}
	o := newObject(plumbing.TreeObject, encode(list))
	return o.Hash(), append(made, o), nil
}

func newObject(kind plumbing.ObjectType, content []byte) plumbing.EncodedObject {
	o := &plumbing.MemoryObject{}
	o.SetType(kind)
	_, _ = o.Write(content) // into memory
	return o
}
