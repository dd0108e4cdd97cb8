package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"

	"github.com/sluice-cd/sluice/bpf"
)

// objectTrials load the objects that somebody has put beside this program, each
// of their programs alone, so that one that is refused does not hide the others.
func objectTrials() ([]trial, error) {
	files, err := filepath.Glob("/*.o")
	if err != nil {
		return nil, err
	}
	var trials []trial
	for _, file := range files {
		object, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		spec, err := bpf.ReadSpec(object)
		if err != nil {
			return nil, err
		}
		for _, p := range spec.Programs {
			trials = append(trials, trial{filepath.Base(file) + ": " + p.Name, cmp.Or(spec.MinKernel, oldest), func(context.Context) error {
				return loadAlone(object, p.Name)
			}})
		}
	}
	return trials, nil
}

// loadAlone loads one program of an object. If the kernel takes it, how much the
// verifier had to do is printed; if not, the error has the whole log.
func loadAlone(object []byte, program string) error {
	spec, err := bpf.Open(object, bpf.DigestOf(object))
	if err != nil {
		return err
	}
	spec.Programs = map[string]*ebpf.ProgramSpec{program: spec.Programs[program]}
	for _, level := range []ebpf.LogLevel{0, ebpf.LogLevelStats} {
		coll, err := bpf.Load(spec.Copy(), ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: level}})
		if err != nil {
			return err
		}
		fmt.Print(coll.Programs[program].VerifierLog)
		coll.Close()
	}
	return nil
}
