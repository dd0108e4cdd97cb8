package wire

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluice-cd/sluice/bpf"
)

func encodeLoaded(dst []byte, l bpf.Loaded) []byte {
	dst, at := begin(dst, snapshotLoaded)
	dst = text(dst, loadedDigest, string(l.Digest))
	for _, p := range l.Programs {
		dst = encodeProgram(dst, p)
	}
	for _, m := range l.Maps {
		dst = encodeMap(dst, m)
	}
	return endAny(dst, snapshotLoaded, at)
}

func encodeProgram(dst []byte, p bpf.LoadedProgram) []byte {
	dst, at := begin(dst, loadedPrograms)
	dst = textAlways(dst, programName, p.Name)
	dst = number(dst, programID, uint64(p.ID))
	dst = text(dst, programTag, p.Tag)
	dst = text(dst, programLoaded, string(p.LoadedDigest))
	dst = text(dst, programXlated, string(p.XlatedDigest))
	dst = number(dst, programLink, uint64(p.LinkID))
	dst = text(dst, programAttachType, p.AttachType)
	return end(text(dst, programAttached, p.AttachedTo), at)
}

func encodeMap(dst []byte, m bpf.LoadedMap) []byte {
	dst, at := begin(dst, loadedMaps)
	dst = textAlways(dst, mapName, m.Name)
	dst = number(dst, mapID, uint64(m.ID))
	dst = text(dst, mapType, m.Type)
	dst = number(dst, mapKeySize, uint64(m.KeySize))
	dst = number(dst, mapValueSize, uint64(m.ValueSize))
	dst = number(dst, mapMaxEntries, uint64(m.MaxEntries))
	return end(number(dst, mapFrozen, protowire.EncodeBool(m.Frozen)), at)
}

func readLoaded(r *reader) (l bpf.Loaded) {
	for r.next() {
		switch r.num {
		case loadedDigest:
			l.Digest = bpf.Digest(r.text("digest"))
		case loadedPrograms:
			l.Programs = append(l.Programs, message(r, "programs", len(l.Programs), r.each("programs"), readProgram))
		case loadedMaps:
			l.Maps = append(l.Maps, message(r, "maps", len(l.Maps), r.each("maps"), readMap))
		}
	}
	return l
}

func readProgram(r *reader) (p bpf.LoadedProgram) {
	for r.next() {
		switch r.num {
		case programName:
			p.Name = r.text("name")
		case programID:
			p.ID = r.uint32("id")
		case programTag:
			p.Tag = r.text("tag")
		case programLoaded:
			p.LoadedDigest = bpf.Digest(r.text("loaded_digest"))
		case programXlated:
			p.XlatedDigest = bpf.Digest(r.text("xlated_digest"))
		case programLink:
			p.LinkID = r.uint32("link_id")
		case programAttachType:
			p.AttachType = r.text("attach_type")
		case programAttached:
			p.AttachedTo = r.text("attached_to")
		}
	}
	r.need("name", programName)
	return p
}

func readMap(r *reader) (m bpf.LoadedMap) {
	for r.next() {
		switch r.num {
		case mapName:
			m.Name = r.text("name")
		case mapID:
			m.ID = r.uint32("id")
		case mapType:
			m.Type = r.text("type")
		case mapKeySize:
			m.KeySize = r.uint32("key_size")
		case mapValueSize:
			m.ValueSize = r.uint32("value_size")
		case mapMaxEntries:
			m.MaxEntries = r.uint32("max_entries")
		case mapFrozen:
			m.Frozen = protowire.DecodeBool(r.uint("frozen"))
		}
	}
	r.need("name", mapName)
	return m
}
