package main

import (
	"runtime/debug"
	"testing"
)

// The collector's percentage is the program's own only where GOGC leaves it open.
func TestSetGCPercent(t *testing.T) {
	before := debug.SetGCPercent(123)
	defer debug.SetGCPercent(before)
	setGCPercent(map[string]string{"GOGC": "123"}) // which the runtime has read itself
	if got := debug.SetGCPercent(123); got != 123 {
		t.Errorf("%d with GOGC=123", got)
	}
	setGCPercent(map[string]string{})
	if got := debug.SetGCPercent(123); got != gcPercent {
		t.Errorf("%d without GOGC, want %d", got, gcPercent)
	}
}
