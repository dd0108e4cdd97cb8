package wire

import (
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// number appends a field unless it is zero.
func number(dst []byte, num protowire.Number, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), n)
}

// fixed appends a field of 64 bits unless it is zero.
func fixed(dst []byte, num protowire.Number, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return fixedAlways(dst, num, n)
}

func fixedAlways(dst []byte, num protowire.Number, n uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(dst, num, protowire.Fixed64Type), n)
}

// text appends a string unless it is empty.
func text(dst []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return textAlways(dst, num, s)
}

// textAlways appends a string, in which bytes that are no UTF-8 are replaced,
// because protobuf allows none.
func textAlways(dst []byte, num protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(dst, num, protowire.BytesType), strings.ToValidUTF8(s, "\uFFFD"))
}

// raw appends bytes.
func raw(dst []byte, num protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), b)
}

// numbers appends a packed list without the zeros at its end.
func numbers(dst []byte, num protowire.Number, list []uint64) []byte {
	for len(list) > 0 && list[len(list)-1] == 0 {
		list = list[:len(list)-1]
	}
	if len(list) == 0 {
		return dst
	}
	dst, at := begin(dst, num)
	for _, n := range list {
		dst = protowire.AppendVarint(dst, n)
	}
	return end(dst, at)
}

// begin starts a field whose length is not known yet; end, which is told where
// it begins, puts the length before it.
func begin(dst []byte, num protowire.Number) ([]byte, int) {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return dst, len(dst)
}

func end(dst []byte, at int) []byte {
	n := len(dst) - at
	dst = protowire.AppendVarint(dst, uint64(n)) // makes room
	copy(dst[len(dst)-n:], dst[at:at+n])
	protowire.AppendVarint(dst[:at], uint64(n))
	return dst
}

// endAny is end for a field that is left out when it is empty.
func endAny(dst []byte, num protowire.Number, at int) []byte {
	if len(dst) == at {
		return dst[:at-protowire.SizeTag(num)]
	}
	return end(dst, at)
}
