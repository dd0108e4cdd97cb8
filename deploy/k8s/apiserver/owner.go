package apiserver

import (
	"fmt"
	"strings"
)

// Manager is the field manager under which everything is written.
const Manager = "sluice"

// ForeignError means that an object belongs to somebody else.
type ForeignError struct {
	Object string // such as "httproute shop"
	Owner  string // who manages it, as far as that can be told
	Lacks  string // the label that ours carry
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is not ours: it is managed by %s and lacks %s", e.Object, e.Owner, e.Lacks)
}

// Hint says what to do about it.
func (e *ForeignError) Hint() string {
	return fmt.Sprintf("rename one of the two, or hand it over: kubectl label --overwrite %s %s", strings.Replace(e.Object, " ", "/", 1), e.Lacks)
}
