package gitops

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// packed is one object as a pack has it: type, contents, and what comes before these.
func packed(kind byte, contents string, before ...byte) []byte {
	size := len(contents)
	head := []byte{kind<<4 | byte(size&15)}
	for size >>= 4; size > 0; size >>= 7 {
		head[len(head)-1] |= 0x80
		head = append(head, byte(size&0x7f))
	}
	var out bytes.Buffer
	out.Write(append(head, before...))
	z := zlib.NewWriter(&out)
	_, _ = z.Write([]byte(contents))
	_ = z.Close()
	return out.Bytes()
}

func pack(objects ...[]byte) []byte {
	raw := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), uint32(len(objects)))
	return append(raw, bytes.Join(objects, nil)...)
}

func TestWeighing(t *testing.T) {
	const blob, ofsDelta = 3, 6
	thousand := strings.Repeat("a", 1000)
	base := packed(blob, thousand)
	// A delta: size of its base, size of what it makes, and how.
	bomb := packed(ofsDelta, "\xe8\x07\x80\x80\x80\x80\x01\x90\x0a", byte(len(base)))
	for name, tt := range map[string]struct {
		pack []byte
		most int64
		want error
	}{
		"nothing in it":                  {pack(), 0, nil},
		"just what is taken":             {pack(base), 1000, nil},
		"one byte more":                  {pack(base), 999, errHeavy},
		"many that are small":            {pack(base, base, base), 2999, errHeavy},
		"little that unpacks to much":    {pack(packed(blob, strings.Repeat("\x00", 1<<20))), 1 << 19, errHeavy},
		"a delta that makes much":        {pack(base, bomb), 1 << 20, errHeavy},
		"a delta that ends in its sizes": {pack(base, packed(ofsDelta, "\xe8", byte(len(base)))), 1 << 20, nil},
		"no pack":                        {[]byte("<html>"), 0, nil},
		"a pack that ends":               {pack(base)[:15], 10, nil},
		"nothing at all":                 {nil, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := weigh(tt.pack, tt.most); !errors.Is(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func FuzzWeigh(f *testing.F) {
	f.Add(pack(packed(3, "file")), int64(3))
	f.Fuzz(func(_ *testing.T, raw []byte, most int64) { _ = weigh(raw, most) })
}

// A file of zeros is next to nothing on its way, and would be all of the memory
// of the one who takes it.
func TestWhatUnpacksToTooMuchIsNotUnpacked(t *testing.T) {
	s := serve(t)
	s.write(map[string]string{"zeros": strings.Repeat("\x00", 8<<20)})
	c := released(s)
	repo := s.repo()
	repo.MaxBytes = 1 << 20
	_, err := Revert(t.Context(), repo, c)
	var much *TooLargeError
	if !errors.As(err, &much) || !much.Unpacked || much.Bytes != 4<<20 || much.Hint() == "" {
		t.Errorf("got %v", err)
	}
	if s.fetched.Load() > 1<<20 {
		t.Errorf("%d bytes were sent", s.fetched.Load())
	}
	repo.MaxBytes = 0
	if _, err := Revert(t.Context(), repo, c); err != nil {
		t.Errorf("what fits: %v", err)
	}
}
