package apiserver

import "strings"

// OneLine makes words of others, such as those of a pod, fit for a message.
func OneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// Cut shortens a text to a number of bytes, such as the 1024 that the message of an
// event may have.
func Cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-len("…")], "") + "…"
}
