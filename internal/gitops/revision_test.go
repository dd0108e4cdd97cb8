package gitops

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatATargetRevisionStandsFor(t *testing.T) {
	s := serve(t)
	c := released(s)
	s.git(s.dir, "branch", "release", "main")
	s.git(s.dir, "branch", "2.x", "main")
	for _, tag := range []string{"v1.3.0-rc.1", "nightly", "v1", "v1.1", "0.9.0+build"} {
		s.tag(tag, c.Good)
	}
	for target, want := range map[string]struct {
		rev    Revision
		reason string
	}{
		"main":                 {Revision{IsBranch, "main", c.Bad}, ""},
		"refs/heads/main":      {Revision{IsBranch, "main", c.Bad}, ""},
		"v1.1.0":               {Revision{IsTag, "v1.1.0", c.Good}, ""},
		"refs/tags/v1.1.0":     {Revision{IsTag, "v1.1.0", c.Good}, ""},
		"v1.2.0":               {Revision{IsTag, "v1.2.0", c.Bad}, ""}, // annotated
		"v1.3.0-rc.1":          {Revision{IsTag, "v1.3.0-rc.1", c.Good}, ""},
		"0.9.0+build":          {Revision{IsTag, "0.9.0+build", c.Good}, ""},
		"1.*":                  {Revision{IsConstraint, "v1.2.0", c.Bad}, ""},
		"v1.x":                 {Revision{IsConstraint, "v1.2.0", c.Bad}, ""},
		"~1.1.0":               {Revision{IsConstraint, "v1.1.0", c.Good}, ""},
		"^1":                   {Revision{IsConstraint, "v1.2.0", c.Bad}, ""},
		">=1.0.0 <1.2":         {Revision{IsConstraint, "v1.1.0", c.Good}, ""},
		">=1.0.0-0":            {Revision{IsConstraint, "v1.3.0-rc.1", c.Good}, ""},
		"*":                    {Revision{IsConstraint, "v1.2.0", c.Bad}, ""},
		"v1.2":                 {Revision{}, "no constraint"},
		"1":                    {Revision{}, "no constraint"},
		"v1.1":                 {Revision{}, "no constraint"}, // there is such a tag, and it will be moved
		"v1.1.1":               {Revision{}, "no such tag"},
		"1.2.0":                {Revision{}, "no such tag"},
		"3.*":                  {Revision{}, "no tag satisfies"},
		"2.x":                  {Revision{}, "no tag satisfies"}, // the branch of this name is not the one that was allowed
		"release":              {Revision{}, "neither branch main"},
		"nightly":              {Revision{}, "neither branch main"},
		"refs/heads/release":   {Revision{}, "neither branch main"},
		"":                     {Revision{}, "its HEAD"},
		"HEAD":                 {Revision{}, "its HEAD"},
		c.Bad:                  {Revision{}, "never changes"},
		"--upload-pack=/bin/x": {Revision{}, "neither branch main"},
	} {
		t.Run(target, func(t *testing.T) {
			rev, err := CheckRevision(t.Context(), s.repo(), target)
			if want.reason == "" {
				if diff := cmp.Diff(want.rev, rev); diff != "" || err != nil {
					t.Error(diff, err)
				}
				return
			}
			var refused *RevisionError
			if !errors.As(err, &refused) || !strings.Contains(refused.Reason, want.reason) || refused.Hint() == "" {
				t.Errorf("got %+v, %v; want %q", rev, err, want.reason)
			}
			if target == "v1.2" && !strings.Contains(refused.Hint(), "v1.2.*") {
				t.Errorf("the hint is %q", refused.Hint())
			}
		})
	}
}

func TestARepositoryWithoutTagsOrCommits(t *testing.T) {
	s := serve(t)
	var none *NotFoundError
	if _, err := CheckRevision(t.Context(), s.repo(), "main"); !errors.As(err, &none) {
		t.Errorf("an empty repository: %v", err)
	}
	s.commit("begin", map[string]string{"README": "x"})
	var refused *RevisionError
	if _, err := CheckRevision(t.Context(), s.repo(), "1.*"); !errors.As(err, &refused) || !strings.Contains(refused.Reason, "no tag is a version") {
		t.Errorf("no tags: %v", err)
	}
	repo := s.repo()
	repo.Branch = "other"
	if _, err := CheckRevision(t.Context(), repo, "other"); !errors.As(err, &none) {
		t.Errorf("a branch that is not there: %v", err)
	}
}
