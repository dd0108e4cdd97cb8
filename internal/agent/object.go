package agent

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/bundle"
)

// maxObjectFile bounds what is read of an object, a bundle or a key.
const maxObjectFile = 16 << 20

// BuiltIn is the object that this binary brings along: whoever vouches for the
// binary vouches for it.
func BuiltIn() Object { return Object{Bytes: probe.Object(), Origin: "built-in"} }

// SignedObject reads an object that one of the keys has signed. Errors are
// *bundle.VerifyError, *ViolationError and *bpf.FormatError.
func SignedObject(file, bundleFile string, keys ...*ecdsa.PublicKey) (Object, error) {
	o := Object{Origin: file + ", signed"}
	var err error
	if o.Bytes, err = readLimited("the eBPF object", file); err != nil {
		return o, err
	}
	if o.Bundle, err = readLimited("the signature of the eBPF object", bundleFile); err != nil {
		return o, err
	}
	return o, admit(o, keys)
}

// BoundObject reads an object of a digest that somebody has verified before.
func BoundObject(file string, digest bpf.Digest) (Object, error) {
	o := Object{Origin: file + ", by digest"}
	var err error
	if o.Bytes, err = readLimited("the eBPF object", file); err != nil {
		return o, err
	}
	if got := o.Digest(); got != digest {
		return o, &bpf.DigestError{Want: digest, Got: got}
	}
	return o, obeys(o)
}

// Key reads a public key.
func Key(file string) (*ecdsa.PublicKey, error) {
	text, err := readLimited("the public key", file)
	if err != nil {
		return nil, err
	}
	key, err := bundle.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

// admit verifies the signature before anything else looks at the object.
func admit(o Object, keys []*ecdsa.PublicKey) error {
	if err := bundle.Verify(o.Bytes, o.Bundle, keys...); err != nil {
		return err
	}
	return obeys(o)
}

// ViolationError means that an object has in it what a probe has no need of.
type ViolationError struct{ Violations []bpf.Violation }

func (e *ViolationError) Error() string {
	var list []string
	for _, v := range e.Violations {
		list = append(list, fmt.Sprintf("%s is %s, want %s", v.Rule, v.Got, v.Want))
	}
	return "the eBPF object breaks the rules for objects: " + strings.Join(list, "; ")
}

// obeys compares an object with the rules for objects: a signature says who made
// it, not that it only counts.
func obeys(o Object) error {
	spec, err := bpf.ReadSpec(o.Bytes)
	if err != nil {
		return err
	}
	if broken := spec.Check(bpf.DefaultRules()); len(broken) > 0 {
		return &ViolationError{broken}
	}
	return nil
}

func readLimited(what, file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxObjectFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	if len(raw) > maxObjectFile {
		return nil, fmt.Errorf("reading %s: %s has more than %d bytes", what, file, maxObjectFile)
	}
	if len(raw) == 0 {
		return nil, fmt.Errorf("reading %s: %w", what, errors.New(file+" is empty"))
	}
	return raw, nil
}
