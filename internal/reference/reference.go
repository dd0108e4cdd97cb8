// Package reference takes the names of images apart, REPOSITORY:TAG@DIGEST.
//
// There is one way to do so, because hooks, ledger and registry have to agree on
// what the same image is. It reads and refuses nothing: whether a name will do,
// and what the registry says to it, is for others.
package reference

import "strings"

// Image is a name taken apart. What the name does not say is empty.
type Image struct {
	Repository string // with the host, and its port
	Tag        string // the version of a release
	Digest     string // "sha256:" and what follows
}

// Parse takes a name apart; a digest alone is one, too.
func Parse(ref string) Image {
	const sha256 = "sha256:"
	if strings.HasPrefix(ref, sha256) && !strings.Contains(ref, "@") {
		return Image{Digest: ref}
	}
	name, digest, _ := strings.Cut(ref, "@")
	if !strings.HasPrefix(digest, sha256) || len(digest) == len(sha256) {
		digest = ""
	}
	base := strings.LastIndexByte(name, '/') + 1 // a colon before it is that of a port
	last, tag, _ := strings.Cut(name[base:], ":")
	return Image{Repository: name[:base] + last, Tag: tag, Digest: digest}
}

// Same reports whether two names are of the same image: of one digest, whatever
// the tags and repositories. What has no digest is the same as nothing.
func Same(a, b string) bool {
	digest := Parse(a).Digest
	return digest != "" && digest == Parse(b).Digest
}
