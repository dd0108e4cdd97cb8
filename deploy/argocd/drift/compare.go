package drift

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/reference"
)

// Kind tells a difference from not knowing.
type Kind string

// The kinds of differences.
const (
	Drift   Kind = "drift"
	Unknown Kind = "unknown" // evidence is missing
)

// Mender is who should mend a difference.
type Mender string

// Who mends what.
const (
	ByArgoCD     Mender = "Argo CD"
	BySluice     Mender = "sluice"
	ByKubernetes Mender = "Kubernetes"
	ByPerson     Mender = "a person"
)

// Difference is one thing that is not as it should be.
type Difference struct {
	Kind   Kind   `json:"kind"`
	View   string `json:"view"`  // git, argocd, live or probes
	Where  string `json:"where"` // the object and the part of it
	Want   string `json:"want"`
	Got    string `json:"got"`
	Mender Mender `json:"mender"`
	How    string `json:"how"` // it is mended
}

// stale is the age from which Argo CD's word counts as missing: it looks every
// three to four minutes unless told otherwise.
const stale = time.Hour

// Compare lists what differs, nothing if the four views agree and all of them
// are known. It does no I/O.
func Compare(v View) []Difference {
	c := comparison{View: v, rest: v.Busy() == ""}
	for _, m := range v.Missing {
		c.unknown(m.View, m.Where, "an answer", m.Why, cmp.Or(m.Advice, "see why it cannot be read, and run this again"))
	}
	c.git()
	c.argoCD()
	c.stable()
	c.canary()
	c.route()
	c.leftovers()
	c.probes()
	return c.found
}

// comparison collects differences.
type comparison struct {
	View
	rest  bool // nothing is meant to move
	found []Difference
}

func (c *comparison) drift(view, where, want, got string, by Mender, how string) {
	c.found = append(c.found, Difference{Drift, view, where, want, got, by, how})
}

func (c *comparison) unknown(view, where, want, got, how string) {
	c.found = append(c.found, Difference{Unknown, view, where, want, got, ByPerson, how})
}

// missing reports whether evidence of a view is.
func (c *comparison) missing(view string) bool {
	return slices.ContainsFunc(c.Missing, func(m Missing) bool { return m.View == view })
}

// same reports whether two references mean the same bytes, or are the same where
// one has no digest.
func same(a, b string) bool { return a == b || reference.Same(a, b) }

// short is a commit or digest for a person.
func short(s string) string {
	if s == "" {
		return "any"
	}
	if hex, ok := strings.CutPrefix(s, "sha256:"); ok {
		return fmt.Sprintf("sha256:%.12s", hex)
	}
	return fmt.Sprintf("%.12s", s)
}
