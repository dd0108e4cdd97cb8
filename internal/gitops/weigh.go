package gitops

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// unpacks is how many times the size of a pack its objects may have together: an
// ordinary repository has three to five, one that is made to fill memory a
// thousand.
const unpacks = 4

// errHeavy means that a pack holds more than is taken.
var errHeavy = errors.New("the objects are too large")

// weigh looks whether the objects of a pack, with their deltas before and after
// they are applied, have no more than a number of bytes together; errHeavy if
// not. Nothing of it is kept. What is no pack is for the parser to refuse.
func weigh(pack []byte, most int64) error {
	s := packfile.NewScanner(bytes.NewReader(pack))
	_, n, err := s.Header()
	if err != nil {
		return nil
	}
	scale := &scale{left: most}
	for range n {
		h, err := s.NextObjectHeader()
		if err != nil {
			return nil
		}
		scale.head = nil
		_, _, err = s.NextObject(scale)
		if h.Type.IsDelta() {
			scale.left -= target(scale.head)
		}
		if scale.left < 0 {
			return errHeavy
		}
		if err != nil {
			return nil
		}
	}
	return nil
}

// scale counts what is written to it, until it is too much.
type scale struct {
	left int64
	head []byte // of the object, where a delta has its sizes
}

func (s *scale) Write(p []byte) (int, error) {
	if s.left -= int64(len(p)); s.left < 0 {
		return 0, errHeavy
	}
	const sizes = 2 * 10 // two numbers of up to 64 bits, seven in a byte
	s.head = append(s.head, p[:min(len(p), sizes-min(len(s.head), sizes))]...)
	return len(p), nil
}

// target is the size of what a delta makes, the second number in it (git,
// Documentation/gitformat-pack.txt).
func target(delta []byte) int64 {
	r := bytes.NewReader(delta)
	_, _ = sevens(r) // of its base
	n, err := sevens(r)
	if err != nil || n < 0 {
		return 0 // the parser refuses it
	}
	return n
}

// sevens reads a number of seven bits a byte, the lowest first.
func sevens(r io.ByteReader) (n int64, err error) {
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil || shift > 56 {
			return 0, errors.Join(err, io.ErrUnexpectedEOF)
		}
		if n |= int64(b&0x7f) << shift; b < 0x80 {
			return n, nil
		}
	}
}
