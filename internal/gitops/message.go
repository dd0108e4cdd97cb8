package gitops

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"

	"github.com/go-git/go-git/v5/plumbing"
)

// encodeCommit makes the commit of a revert.
func encodeCommit(tree, parent plumbing.Hash, c Change, path string) plumbing.EncodedObject {
	var out bytes.Buffer
	who := fmt.Sprintf("%s %d +0000", c.Author, c.Time.Unix())
	fmt.Fprintf(&out, "tree %s\nparent %s\nauthor %s\ncommitter %s\n\n%s", tree, parent, who, who, message(c, path))
	return newObject(plumbing.CommitObject, out.Bytes())
}

// maxReason keeps a commit message readable, whatever somebody's pods have said.
const maxReason = 2000

// message is the commit message: a subject, what happened, and trailers.
func message(c Change, path string) string {
	if path == "" {
		path = "everything"
	}
	verdict := line(c.Verdict)
	if verdict == "" {
		verdict = "no verdict"
	}
	var out strings.Builder
	fmt.Fprintf(&out, "revert: %s (%s)\n\n", line(c.Name+" "+c.Version), verdict)
	if reason := line(c.Reason); reason != "" {
		fmt.Fprintf(&out, "%s\n\n", reason)
	}
	fmt.Fprintf(&out, "With this commit %s is again as in\n%s, before %s.\n\n", line(path), c.Good, c.Bad)
	fmt.Fprintf(&out, "Verdict: %s\n", verdict)
	if evidence := line(c.Evidence); evidence != "" {
		fmt.Fprintf(&out, "Evidence: %s\n", evidence)
	}
	fmt.Fprintf(&out, "Reverts: %s\nSigned-off-by: %s\n", c.Bad, c.Author)
	return out.String()
}

// line makes one line of a text, so that nobody's words become a trailer.
func line(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(c rune) bool { return unicode.IsSpace(c) || unicode.IsControl(c) }), " ")
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + " …"
	}
	return s
}
