package main

import "fmt"

// spareFiles are kept from the connections: listeners, Redis, HTTP requests
// that are not connections yet, profiles, logs.
const spareFiles = 1_000

// connLimit is the number of connections to allow: what MAX_CONNS says, or
// what the open-file limit leaves.
func connLimit(configured, files int) (int, error) {
	if configured > 0 {
		return configured, nil
	}
	if files <= spareFiles {
		return 0, fmt.Errorf("MAX_CONNS: cannot be computed: the open-file limit is %d, and %d are kept for other uses; raise the limit (ulimit -n, LimitNOFILE) or set MAX_CONNS", files, spareFiles)
	}
	return files - spareFiles, nil
}
