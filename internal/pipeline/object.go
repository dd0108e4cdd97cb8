package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
)

// Object takes the probe: the one that comes with sluice, or the configured one,
// and checks what it would do before anything signs it.
type Object struct {
	Job
	Spec *bpf.Spec
}

func (*Object) String() string { return "bpf" }

func (s *Object) file() string { return s.path("bpf", "probe.bpf.o") }

// foreign reports whether the object comes with somebody else's signature.
func (s *Object) foreign() bool { return s.Config.BPF.Bundle != "" }

// Run copies the object into the release and checks it.
func (s *Object) Run(context.Context) (string, error) {
	raw, from := probe.Object(), "built-in probe"
	if path := s.Config.BPF.Object; path != "" {
		var err error
		if raw, err = os.ReadFile(path); err != nil {
			return "", fmt.Errorf("reading probe object: %w", err)
		}
		from = path
	}
	spec, err := bpf.ReadSpec(raw)
	if err != nil {
		return "", err
	}
	if list := spec.Check(bpf.DefaultRules()); len(list) > 0 {
		return "", violations(list)
	}
	s.Spec = spec
	if err := writeFile(s.file(), raw); err != nil {
		return "", err
	}
	if s.foreign() {
		if err := s.verifyForeign(raw); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s, %d programs, %d maps, %.12s", from, len(spec.Programs), len(spec.Maps), bare(string(spec.Digest))), nil
}

// verifyForeign checks the signature that came with a configured object and
// keeps it beside the copy.
func (s *Object) verifyForeign(raw []byte) error {
	bundle, err := os.ReadFile(s.Config.BPF.Bundle)
	if err != nil {
		return fmt.Errorf("reading the signature of the probe object: %w", err)
	}
	v, err := s.verifier()
	if err != nil {
		return err
	}
	if err := v.Blob(raw, bundle); err != nil {
		return &RefusedError{Trigger: "signature", Err: fmt.Errorf("verifying %s: %w", s.Config.BPF.Object, err)}
	}
	return writeFile(bundlePath(s.file()), bundle)
}

func violations(found []bpf.Violation) error {
	var lines []string
	for _, v := range found {
		lines = append(lines, fmt.Sprintf("%s is %s, allowed: %s", v.Rule, v.Got, v.Want))
	}
	return errors.New("the probe object breaks a rule: " + strings.Join(lines, "; "))
}
