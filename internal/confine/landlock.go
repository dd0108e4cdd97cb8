package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What Landlock calls reading; folders can be listed, too.
const (
	readFile   = unix.LANDLOCK_ACCESS_FS_READ_FILE
	readFolder = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
)

// What Landlock calls writing, of its second version (Linux 5.19), without what
// nobody here needs: devices and special files. The first one refused to move a
// file from one folder to another, which is how files are written safely.
const writeFolder = readFolder | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
	unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
	unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
	unix.LANDLOCK_ACCESS_FS_REFER

// everything is what is refused unless a rule allows it: all file rights of
// Landlock's second version.
const everything = unix.LANDLOCK_ACCESS_FS_EXECUTE | writeFolder | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR |
	unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM

// restrictFiles leaves only these files to the process, by Landlock, and no TCP
// port to listen on. It also hides the memory of processes outside, even from
// root. It returns the version of Landlock, 0 if the kernel has none.
func restrictFiles(l Limits) (int, error) {
	version, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || version < 2 {
		return 0, nil // not built in, switched off, or too old
	}
	rules := unix.LandlockRulesetAttr{Access_fs: everything}
	if version >= 3 {
		rules.Access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	size := unsafe.Sizeof(rules.Access_fs)
	if version >= 4 { // the net rights came with this version, and with them a longer structure
		rules.Access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP
		size += unsafe.Sizeof(rules.Access_net)
	}
	fd, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), size, 0)
	if errno != 0 {
		return 0, fmt.Errorf("making a Landlock ruleset: %w", errno)
	}
	defer unix.Close(int(fd))
	for access, paths := range map[uint64][]string{
		readFolder: l.Read, unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR: l.Remove,
		writeFolder | rules.Access_fs&unix.LANDLOCK_ACCESS_FS_TRUNCATE: l.Write,
	} {
		for _, path := range paths {
			if err := allow(int(fd), path, access); err != nil {
				return 0, err
			}
		}
	}
	if err := allThreads(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); err != nil {
		return 0, fmt.Errorf("entering the Landlock ruleset: %w", err)
	}
	return int(version), nil
}

// allow adds a rule for a folder and all below, or for a file. What does not
// exist needs none, and nor does a path that was not given.
func allow(ruleset int, path string, access uint64) error {
	if path == "" {
		return nil
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	defer unix.Close(fd)
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if info.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	_, _, errno := syscall.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("allowing %s: %w", path, errno)
	}
	return nil
}
