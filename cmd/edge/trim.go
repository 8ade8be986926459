package main

import (
	"context"
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// trimEvery is how often a node looks whether memory can go back to the system.
const trimEvery = 10 * time.Second

// heapState is what the runtime says of the heap, in bytes.
type heapState struct {
	allocated uint64 // since the process began
	live      uint64 // what the last collection found in use
	resident  uint64 // of the heap, used or not, and not with the system
}

// trimmer decides when a node gives memory back: in the quiet after a storm of
// connects or of messages. The runtime's own pace is that of a program whose heap
// turns over: it keeps half as much again as is live (gcPercent), and what a storm
// needed, because the next allocation is near. Of an edge whose conns only sit there
// nothing is near, and this room is most of what a conn seems to cost.
//
// A trim is a collection, and the next one needs as much garbage again: a sixteenth
// of the heap, in place of half of it, and only while that comes slowly.
type trimmer struct {
	last  heapState // as it was looked at last
	after heapState // as the last trim left it
}

// Shares of the live heap, and what is too little to be worth it.
const (
	trimShare  = 16      // of garbage, from which a trim is worth it
	quietShare = 256     // allocated between two looks, up to which the node is quiet
	trimLeast  = 2 << 20 // bytes
	quietLeast = 4 << 20 // bytes
)

// due says whether to trim now.
func (t *trimmer) due(h heapState) bool {
	allocated := h.allocated - t.last.allocated
	t.last = h
	if allocated > max(h.live/quietShare, quietLeast) {
		return false
	}
	enough := max(h.live/trimShare, trimLeast)
	return h.resident >= h.live+enough && h.allocated-t.after.allocated >= enough
}

// trimmed takes note of what a trim left.
func (t *trimmer) trimmed(h heapState) { t.last, t.after = h, h }

// heapReader reads the state of the heap.
type heapReader []metrics.Sample

func newHeapReader() heapReader {
	return heapReader{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
}

func (r heapReader) read() heapState {
	metrics.Read(r)
	return heapState{
		allocated: r[0].Value.Uint64(), live: r[1].Value.Uint64(),
		resident: r[2].Value.Uint64() + r[3].Value.Uint64() + r[4].Value.Uint64(),
	}
}

// trim gives memory back to the system when the node is quiet, until ctx ends.
func trim(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(trimEvery)
	defer ticker.Stop()
	heap, t := newHeapReader(), trimmer{}
	t.last = heap.read()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		before := heap.read()
		if !t.due(before) {
			continue
		}
		debug.FreeOSMemory()
		after := heap.read()
		t.trimmed(after)
		log.Debug("memory was given back to the system", "bytes", int64(before.resident)-int64(after.resident), "live", after.live)
	}
}
