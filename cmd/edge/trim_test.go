package main

import (
	"runtime"
	"testing"
)

const mib = 1 << 20

// A node's life in looks: what it allocated in between, what was live and resident.
func TestTrimmer(t *testing.T) {
	type look struct{ allocates, live, resident uint64 }
	for name, c := range map[string]struct {
		looks []look
		due   []bool
	}{
		"young and small":       {[]look{{3 * mib, 3 * mib, 4 * mib}, {0, 3 * mib, 4 * mib}}, []bool{false, false}},
		"a storm, then quiet":   {[]look{{200 * mib, 30 * mib, 80 * mib}, {50 * mib, 34 * mib, 80 * mib}, {mib / 2, 34 * mib, 80 * mib}}, []bool{false, false, true}},
		"never quiet":           {[]look{{200 * mib, 30 * mib, 80 * mib}, {5 * mib, 30 * mib, 80 * mib}, {5 * mib, 30 * mib, 80 * mib}}, []bool{false, false, false}},
		"quiet for its size":    {[]look{{9000 * mib, 2000 * mib, 3000 * mib}, {7 * mib, 2000 * mib, 3000 * mib}}, []bool{false, true}},
		"nothing to win":        {[]look{{200 * mib, 34 * mib, 36 * mib}, {0, 34 * mib, 36 * mib}}, []bool{false, false}},
		"once per share":        {[]look{{200 * mib, 34 * mib, 80 * mib}, {0, 34 * mib, 80 * mib}, {mib, 34 * mib, 80 * mib}, {mib / 2, 34 * mib, 80 * mib}}, []bool{false, true, false, false}},
		"again after a share":   {[]look{{200 * mib, 34 * mib, 80 * mib}, {0, 34 * mib, 80 * mib}, {6 * mib, 34 * mib, 80 * mib}, {0, 34 * mib, 80 * mib}}, []bool{false, true, false, true}},
		"much allocated before": {[]look{{0, 34 * mib, 80 * mib}}, []bool{false}},
	} {
		t.Run(name, func(t *testing.T) {
			var tr trimmer
			var h heapState
			for i, l := range c.looks {
				h = heapState{h.allocated + l.allocates, l.live, l.resident}
				got := tr.due(h)
				if got != c.due[i] {
					t.Fatalf("look %d: due is %v", i, got)
				}
				if got {
					tr.trimmed(h)
				}
			}
		})
	}
}

// The runtime knows the figures by these names, and they make sense.
func TestHeapReader(t *testing.T) {
	r := newHeapReader()
	runtime.GC()
	before := r.read()
	kept := make([]byte, 8*mib)
	after := r.read()
	if after.allocated < before.allocated+8*mib {
		t.Errorf("8 MiB were allocated, the runtime says %d more", after.allocated-before.allocated)
	}
	if before.live == 0 || before.resident < before.live {
		t.Errorf("the heap is %+v", before)
	}
	runtime.GC()
	if got := r.read(); got.live < 8*mib {
		t.Errorf("live are %d bytes, with 8 MiB kept", got.live)
	}
	runtime.KeepAlive(kept)
}
