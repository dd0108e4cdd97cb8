package bpf

import (
	"errors"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// What is asked every second is asked of the kernel directly: cilium/ebpf reads
// everything about an object, and more of it from /proc, which takes 15 to 50
// times as long. The structures are the beginnings of those of linux/bpf.h; the
// kernel takes shorter ones from older programs. Pointers have their size on
// 64-bit machines.

// programInfo is struct bpf_prog_info up to map_ids.
type programInfo struct {
	Type, ID          uint32
	Tag               [8]byte
	JitedLen, CodeLen uint32
	Jited, Code       unsafe.Pointer
	LoadTime          uint64
	CreatedBy, MapLen uint32
	Maps              unsafe.Pointer
}

// mapInfo is struct bpf_map_info up to the types of keys and values.
type mapInfo struct {
	Type, ID, KeySize, ValueSize, MaxEntries, Flags uint32
	Name                                            [unix.BPF_OBJ_NAME_LEN]byte
	Interface, KernelType                           uint32
	NetnsDev, NetnsIno                              uint64
	BTF, KeyType, ValueType                         uint32
}

// infoRequest is the part of union bpf_attr that BPF_OBJ_GET_INFO_BY_FD reads.
type infoRequest struct {
	FD, Len uint32
	Info    unsafe.Pointer
}

// elementRequest is the part that BPF_MAP_UPDATE_ELEM reads.
type elementRequest struct {
	FD, _             uint32
	Key, Value, Flags uint64
}

// ask runs a bpf command.
func ask[T any](command uintptr, request *T) error {
	_, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(request)), unsafe.Sizeof(*request))
	if errno != 0 {
		return errno
	}
	return nil
}

// info asks for what the kernel says of an object.
func info[T any](fd int, into *T) error {
	return ask(unix.BPF_OBJ_GET_INFO_BY_FD, &infoRequest{
		FD: uint32(fd), Len: uint32(unsafe.Sizeof(*into)), Info: unsafe.Pointer(into),
	})
}

// maxMaps is the most maps that the verifier lets a program use.
const maxMaps = 64

// programMaps returns the ids of the maps that a program uses.
func programMaps(program int) ([]uint32, error) {
	var ids [maxMaps]uint32
	in := programInfo{MapLen: maxMaps, Maps: unsafe.Pointer(&ids)}
	if err := info(program, &in); err != nil {
		return nil, err
	}
	return ids[:min(in.MapLen, maxMaps)], nil
}

// programCode returns a program's instructions as the kernel translated them,
// nothing if it does not show them.
func programCode(program int) ([]byte, error) {
	var size programInfo
	if err := info(program, &size); err != nil || size.CodeLen == 0 {
		return nil, err
	}
	code := make([]byte, size.CodeLen)
	in := programInfo{CodeLen: size.CodeLen, Code: unsafe.Pointer(&code[0])}
	if err := info(program, &in); err != nil || in.Code == nil { // nil: it is blinded
		return nil, err
	}
	return code[:min(in.CodeLen, size.CodeLen)], nil
}

// frozen reports whether user space can no longer write to a map. It tries to
// write nothing at all: only a map that can be written to gets as far as the
// complaint about the flag.
func frozen(m *ebpf.Map) (bool, error) {
	err := ask(unix.BPF_MAP_UPDATE_ELEM, &elementRequest{FD: uint32(m.FD()), Flags: unix.BPF_F_LOCK})
	if !errors.Is(err, unix.EPERM) {
		return false, nil
	}
	full, err := m.Info() // EPERM can have other reasons
	if err != nil {
		return false, err
	}
	return full.Frozen(), nil
}
