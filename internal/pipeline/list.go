package pipeline

// Main returns the main job: every step from source to a promoted or
// rolled-back release. The rollout is returned for its record.
func Main(j Job) ([]Step, *Rollout) {
	roll, r := Deploy(j)
	return append(Release(j), roll...), r
}

// Release returns the first half: what makes a release and leaves it, signed,
// in the out folder.
func Release(j Job) []Step {
	var (
		build  = &Build{Job: j}
		pack   = &Pack{Job: j, Build: build}
		object = &Object{Job: j}
		sbom   = &SBOM{Job: j, Build: build, Object: object}
		image  = &Image{Job: j, Build: build}
		sign   = &Sign{Job: j, Build: build, Pack: pack, SBOM: sbom, Object: object, Image: image}
		policy = &Policy{Job: j, Sign: sign}
	)
	return []Step{
		build,
		pack,
		object,
		sbom,
		image,
		sign,
		policy,
		&Publish{Job: j, Sign: sign},
	}
}

// Deploy returns the second half: what takes a release from the out folder,
// verifies it and rolls it out.
func Deploy(j Job) ([]Step, *Rollout) {
	r := &Rollout{Job: j}
	return []Step{
		Load{r},
		Start{r},
		Judge{r},
		Settle{r},
		Record{r},
	}, r
}

// Until returns the steps up to and with the named one, and whether there is
// such a step.
func Until(steps []Step, name string) ([]Step, bool) {
	for i, s := range steps {
		if s.String() == name {
			return steps[:i+1], true
		}
	}
	return nil, false
}

// ImageDigest is the digest of the image index that the steps made; empty as long
// as they have not.
func ImageDigest(steps []Step) string {
	for _, s := range steps {
		if image, ok := s.(*Image); ok {
			return image.Digest
		}
	}
	return ""
}

// Made is what a step of the first half made, for printing.
func Made(s Step) any {
	switch s := s.(type) {
	case *Build:
		return s.Binaries
	case *Pack:
		return s.Results
	case *Object:
		return s.Spec
	case *SBOM:
		return s.Docs
	case *Image:
		return map[string]string{"digest": s.Digest}
	case *Sign:
		return s.Release
	case *Policy:
		return map[string]any{"denials": s.Denials}
	case *Publish:
		return s.Sign.Release
	}
	return nil
}
