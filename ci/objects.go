package main

import (
	"context"

	"dagger/sluice/command"
	"dagger/sluice/internal/dagger"
	"dagger/sluice/toolbox"
)

// Bpf compiles the eBPF objects again with a pinned clang, and fails if one differs from what is committed. It returns the folder with the objects.
// +check
func (m *Sluice) Bpf(
	ctx context.Context,
	// Image with Go, if it is not the one of the other functions; clang-19, llvm-19 and libbpf-dev are added where it has none
	// +optional
	clang *dagger.Container,
) (*dagger.Directory, error) {
	w := *m
	if clang != nil {
		w.Base = clang
	}
	ctr := w.tools(w.golang(), toolbox.BPF).
		WithDirectory(toolDir, m.Tool).
		WithWorkdir(toolDir).
		WithExec(command.CompareObjects("bpf"))
	return ctr.Directory("bpf").Filter(dagger.DirectoryFilterOpts{Include: []string{"**/*.o"}}).Sync(ctx)
}

// BpfCheck reads what an object would do and holds it against the rules, without loading it.
// +check
func (m *Sluice) BpfCheck(
	ctx context.Context,
	// Object to check (default: the probe that sluice is built with)
	// +optional
	object *dagger.File,
) (string, error) {
	return m.workbench(toolbox.Compile).
		WithFile(objectFile, m.object(object)).
		WithExec([]string{"sluice", "bpf", "check", "--no-load", objectFile}).
		Stdout(ctx)
}

// LoadTest lets the engine's kernel verify and load an object, and tries everything else that a rollout needs of it. It runs as root of the engine.
// +cache="never"
func (m *Sluice) LoadTest(
	ctx context.Context,
	// Object to load (default: the probe that sluice is built with)
	// +optional
	object *dagger.File,
) (string, error) {
	return fresh(m.workbench(toolbox.Serve)).
		WithFile(objectFile, m.object(object)).
		WithExec(command.LoadTest(objectFile), dagger.ContainerWithExecOpts{InsecureRootCapabilities: true}).
		Stdout(ctx)
}

const objectFile = "/tmp/probe.bpf.o"

func (m *Sluice) object(given *dagger.File) *dagger.File {
	if given != nil {
		return given
	}
	return m.Tool.File("bpf/probe/probe_bpfel.o")
}

// Kernels tries every eBPF object on Linux 5.10 to the newest, in virtual machines. It needs Debian's kernels from the network.
// +cache="never"
func (m *Sluice) Kernels(
	ctx context.Context,
	// Only this kernel
	// +optional
	only string,
) (string, error) {
	return fresh(m.tools(m.golang(), toolbox.Kernels)).
		WithDirectory(toolDir, m.Tool).
		WithWorkdir(toolDir).
		WithExec(command.Kernels(only)).
		Stdout(ctx)
}
