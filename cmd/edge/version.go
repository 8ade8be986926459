package main

import "runtime/debug"

// version is set when a release is linked (-ldflags "-X main.version=v1.2.3"); nothing assigns it afterwards.
var version string

// edgeVersion is the linked version, or what the Go toolchain recorded about the build.
func edgeVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return buildVersion(info)
}

// buildVersion names a build: the module's version if it has one, else the commit, with -dirty for a changed tree.
func buildVersion(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "-dirty"
			}
		}
	}
	if revision == "" {
		return "devel"
	}
	return "devel-" + revision[:min(len(revision), 12)] + dirty
}
