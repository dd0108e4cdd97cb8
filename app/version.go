package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is the release version. The pipeline stamps it with
// -ldflags "-X main.version=v1.2.3"; when empty the build info is asked.
var version string

// releaseVersion returns the version that every answer carries: the stamped
// one, else the module's from the build info, else "(devel)".
func releaseVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// describeVersion is the line of -version: version, commit if known, compiler
// and platform.
func describeVersion() string {
	commit := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = "commit " + s.Value + ", "
			}
		}
	}
	return fmt.Sprintf("%s (%s%s, %s/%s)", releaseVersion(), commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
