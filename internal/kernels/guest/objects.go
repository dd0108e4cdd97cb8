package main

import (
	"cmp"
	"context"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"

	"github.com/sluice-cd/sluice/bpf"
)

// objectTrials load the objects that somebody has put beside this program.
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
		trials = append(trials, trial{filepath.Base(file) + ": loads", cmp.Or(spec.MinKernel, oldest), func(context.Context) error {
			programs, err := bpf.Open(object, spec.Digest)
			if err != nil {
				return err
			}
			coll, err := bpf.Load(programs, ebpf.CollectionOptions{})
			if err != nil {
				return err
			}
			coll.Close()
			return nil
		}})
	}
	return trials, nil
}
