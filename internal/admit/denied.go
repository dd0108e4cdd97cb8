package admit

import (
	"strings"

	"github.com/sluice-cd/sluice/internal/policy"
)

// DeniedError lists what the rules object to.
type DeniedError struct{ Denials []policy.Denial }

func (e *DeniedError) Error() string {
	var lines []string
	for _, d := range e.Denials {
		lines = append(lines, d.Rule+": "+d.Message)
	}
	return "denied: " + strings.Join(sortedOnce(lines), "; ")
}

// Hint is how to make the rules agree.
func (e *DeniedError) Hint() string {
	var fixes []string
	for _, d := range e.Denials {
		fixes = append(fixes, d.Fix)
	}
	return strings.Join(sortedOnce(fixes), "\n    ")
}

// signature reports whether all of it is about signatures, or an SBOM of something
// else.
func (e *DeniedError) signature() bool {
	for _, d := range e.Denials {
		if d.Rule != "missing_signature" && d.Rule != "foreign_sbom" {
			return false
		}
	}
	return true
}
