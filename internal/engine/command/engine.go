// Code generated from ci/command/engine.go (UPDATE=1 go test ./internal/engine). DO NOT EDIT.

package command

import (
	"fmt"
	"strconv"
	"strings"
)

// EngineVersion is the engine that the module is made for; see dagger.json.
const EngineVersion = "v0.21.8"

// CheckEngine refuses an engine that is older than EngineVersion, or whose
// version cannot be read. Builds between two releases count as the next one.
func CheckEngine(version string) error {
	got, ok := numbers(version)
	want, _ := numbers(EngineVersion)
	if !ok {
		return fmt.Errorf("the engine calls itself %q, which is no version: use Dagger %s or newer", version, EngineVersion)
	}
	for i := range want {
		if got[i] != want[i] {
			if got[i] < want[i] {
				return fmt.Errorf("the engine is Dagger %s, which is too old: use %s or newer, engine and command alike", version, EngineVersion)
			}
			return nil
		}
	}
	return nil
}

// numbers are the three of a version, whatever comes after them.
func numbers(version string) (n [3]int, ok bool) {
	core, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), "-")
	core, _, _ = strings.Cut(core, "+")
	parts := strings.Split(core, ".")
	if len(parts) != len(n) {
		return n, false
	}
	for i, p := range parts {
		v, err := strconv.Atoi(p)
		if err != nil {
			return n, false
		}
		n[i] = v
	}
	return n, true
}
