// Package leak checks in tests that goroutines end.
package leak

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// Check notes the goroutines now and fails the test if more of them are left when
// it ends, after what the test itself registered with Cleanup later has run.
// Goroutines whose stack contains one of ignore are not counted.
func Check(t testing.TB, ignore ...string) {
	t.Helper()
	before := count(ignore)
	t.Cleanup(func() {
		deadline := time.Now().Add(20 * time.Second)
		for count(ignore) > before {
			if time.Now().After(deadline) {
				t.Errorf("leak: %d goroutines before, %d after:\n%s", before, count(ignore), stacks())
				return
			}
			time.Sleep(5 * time.Millisecond) // polling, bounded by the deadline
		}
	})
}

func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

func count(ignore []string) int {
	n := 0
next:
	for _, g := range strings.Split(stacks(), "\n\n") {
		for _, i := range ignore {
			if strings.Contains(g, i) {
				continue next
			}
		}
		n++
	}
	return n
}
