package state

import (
	"testing"
	"unsafe"
)

// TestSizes: what presence keeps of every conn fits the runtime's size classes
// that docs/performance.md counts with.
func TestSizes(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the sizes are those of 64 bits")
	}
	for _, s := range []struct {
		what    string
		got, at uintptr
	}{
		{"member", unsafe.Sizeof(member{}), 80}, // one for the user, one for each of its rooms
		{"socket", unsafe.Sizeof(socket{}), 96},
	} {
		if s.got > s.at {
			t.Errorf("%s has %d bytes, more than its class of %d", s.what, s.got, s.at)
		}
	}
}
