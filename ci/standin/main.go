// Command standin writes stand-ins for what Dagger's engine generates, so that
// the module can be vetted and tested where there is no engine: the same types,
// taken from the SDK's own client.
//
//	go run ./standin && go vet ./... && go test ./...
//
// dagger develop writes the real files in the same places, and git ignores both.
// Real ones are left alone.
package main

import (
	"fmt"
	"os"

	_ "dagger.io/dagger" // whose types the stand-ins name
)

func main() {
	if err := write("."); err != nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}
