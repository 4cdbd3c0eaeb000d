// Package buildinfo says which program this is: the version that every service reports in its heartbeat.
package buildinfo

import (
	"runtime"
	"runtime/debug"
)

// version is set when a release is built:
//
//	go build -ldflags "-X github.com/omflow-booster/omflow-booster/internal/buildinfo.version=v1.2.3"
var version string

const development = "devel" // built from files that no version control knows

// Version is the version of omflow-booster: of the release, of the module, or devel-<commit> when neither is known.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return describe(info)
	}
	return development
}

// describe names a program that carries no release version. A commit with local changes ends in "+dirty".
func describe(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	if revision == "" {
		return development
	}
	return "devel-" + revision[:min(len(revision), 12)] + dirty
}

// Go is the version of Go that built the program, for example go1.26.8.
func Go() string { return runtime.Version() }
