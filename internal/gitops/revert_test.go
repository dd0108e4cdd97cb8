package gitops

import "testing"

func TestSmoke(t *testing.T) {
	s := serve(t)
	c := released(s)
	res, err := Revert(t.Context(), s.repo(), c)
	t.Log(res, err, s.fetched.Load())
	t.Log(s.git(s.dir, "log", "--stat", "-2", "main"))
	t.Log(s.git(s.dir, "fsck", "--full"))
	res, err = Revert(t.Context(), s.repo(), c)
	t.Log(res, err)
	c.Constraint = "1.*"
	res, err = Revert(t.Context(), s.repo(), c)
	t.Log(res, err)
	for _, r := range []string{"main", "v1.2", "v1.2.0", "1.*", "2.*", "", "foo", "v1.9.0", "1.2.x", ">=1.0.0 <1.2"} {
		rev, err := CheckRevision(t.Context(), s.repo(), r)
		t.Log(r, rev, err)
	}
}
