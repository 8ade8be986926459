package engine

import (
	"testing"
	"unsafe"
)

// TestSizes: what every idle conn consists of fits the runtime's size classes that
// docs/performance.md counts with.
func TestSizes(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the sizes are those of 64 bits")
	}
	for _, s := range []struct {
		what    string
		got, at uintptr
	}{
		{"conn", unsafe.Sizeof(conn{}), 224},
		{"Socket", unsafe.Sizeof(Socket{}), 256},
		{"session", unsafe.Sizeof(session{}), 64},
		{"handshake", unsafe.Sizeof(handshake{}), 48},
	} {
		if s.got > s.at {
			t.Errorf("%s has %d bytes, more than its class of %d", s.what, s.got, s.at)
		}
	}
}
