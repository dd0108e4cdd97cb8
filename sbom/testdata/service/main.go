// Command service is a small Go binary with dependencies, for the tests.
package main

import (
	"github.com/cespare/xxhash/v2"
	"golang.org/x/mod/semver"
)

func main() {
	println(semver.Canonical("v1.2"), xxhash.Sum64String("sluice"))
}
