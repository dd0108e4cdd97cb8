package bpf

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// DigestError means that an object is not the one that was asked for.
type DigestError struct{ Want, Got Digest }

func (e *DigestError) Error() string {
	return fmt.Sprintf("the eBPF object has digest %s, signed was %s", e.Got, e.Want)
}

// Open parses an object for loading, if it is the one with the wanted digest.
// Errors: *DigestError, *FormatError.
func Open(obj []byte, want Digest) (*ebpf.CollectionSpec, error) {
	if got := DigestOf(obj); got != want {
		return nil, &DigestError{Want: want, Got: got}
	}
	return collection(obj)
}

// LoadError means that the kernel did not take a program.
type LoadError struct {
	Lines []string // of the verifier's log, those that tell why
	Log   []string // the whole log, as far as it was kept
	Err   error
}

func (e *LoadError) Error() string {
	if len(e.Lines) > 0 {
		return "the kernel refused the eBPF object: " + strings.Join(e.Lines, "; ")
	}
	return fmt.Sprintf("the kernel refused the eBPF object: %v", e.Err)
}

func (e *LoadError) Unwrap() error { return e.Err }

// Hint says what to try.
func (e *LoadError) Hint() string {
	if errors.Is(e.Err, ebpf.ErrNotSupported) {
		return "this kernel lacks a feature that the probe needs; sluice doctor says which"
	}
	if errors.Is(e.Err, unix.ENOSYS) {
		return "this kernel has no bpf system call, or a container's seccomp profile forbids it"
	}
	if strings.Contains(e.Err.Error(), "MEMLOCK") {
		return "loading eBPF needs root (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON); in a container a seccomp profile that allows bpf (some runtimes' do with CAP_SYS_ADMIN only); before Linux 5.11 also memory that may be locked: LimitMEMLOCK=infinity, or CAP_SYS_RESOURCE"
	}
	if len(e.Log) > 0 {
		return "the verifier's whole log is printed with --verbose"
	}
	return "loading eBPF needs root (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON); sluice doctor says what is missing"
}

// Load gives an object's maps and programs to the kernel, all or nothing. The
// error is a *LoadError.
func Load(spec *ebpf.CollectionSpec, opts ebpf.CollectionOptions) (*ebpf.Collection, error) {
	_ = rlimit.RemoveMemlock() // only needed before Linux 5.11; loading says so if it was
	coll, err := ebpf.NewCollectionWithOptions(spec, opts)
	if err == nil {
		return coll, nil
	}
	return nil, loadError(err)
}

// loadError takes out of an error what a person needs.
func loadError(err error) *LoadError {
	load := &LoadError{Err: err}
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		load.Log, load.Lines = verifier.Log, telling(verifier.Log)
	}
	return load
}

// telling picks the lines of a verifier log that a person needs: the complaint,
// which comes last but for the statistics, and the source line it is about.
func telling(log []string) []string {
	var source, complaint string
	for _, line := range log {
		line = strings.TrimSpace(line)
		switch {
		case line == "", strings.HasPrefix(line, "processed "), strings.HasPrefix(line, "verification time"), strings.HasPrefix(line, "stack depth"):
		case strings.HasPrefix(line, ";"):
			source = strings.TrimSpace(strings.TrimPrefix(line, ";"))
		default:
			complaint = line
		}
	}
	if complaint == "" {
		return nil
	}
	if source == "" {
		return []string{complaint}
	}
	return []string{complaint, "at: " + source}
}
