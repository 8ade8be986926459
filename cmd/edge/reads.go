package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/stellara/edge/state"
)

// Bounds of presence reads.
const (
	maxReaders  = 16              // goroutines reading at a time
	readTimeout = 2 * time.Second // per read; a client's question must not wait for a Redis that is away
	readTries   = 4               // of a read that updates overtake
)

// reads runs presence reads off the pollers, on at most maxReaders goroutines
// that exist only while there is work. All who wait for the same room share
// one read, which begins after the last of them asked: five thousand joins of
// one room cost a handful of reads, and none misses its own join. The queue is
// bounded by the sockets, each of which has one read open at most.
//
// A client ignores updates that come before its first snapshot. So snapshots
// and updates of a room leave in one order: a snapshot that is older than an
// update which has left already is read again.
type reads struct {
	presence presence
	log      *slog.Logger

	mu      sync.Mutex                          // taken alone or within order
	rooms   map[string][]func(*snapshot, error) // who waits for a read that has not begun
	queue   []func(context.Context)
	readers int

	order  sync.Mutex  // held while snapshots and updates are handed to the engine, which does not wait
	active []*roomRead // under way, maxReaders at most
}

// roomRead is a read of a room under way; last is the last update that the
// room's members were sent meanwhile, zero if there was none.
type roomRead struct {
	room string
	last state.PresenceUpdate
}

// overtaken reports whether members were told of more than is in snap.
func (r *roomRead) overtaken(snap state.Snapshot) bool {
	return r.last.Room != "" && (r.last.Epoch != snap.Epoch || r.last.Seq > snap.Seq)
}

func newReads(p presence, log *slog.Logger) *reads {
	return &reads{presence: p, log: log, rooms: map[string][]func(*snapshot, error){}}
}

// members reads a room's users and calls done on another goroutine. done must
// not wait: updates of all rooms do until it returns.
func (r *reads) members(room string, done func(*snapshot, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting, queued := r.rooms[room]
	r.rooms[room] = append(waiting, done)
	if !queued {
		r.add(func(ctx context.Context) { r.readRoom(ctx, room) })
	}
}

func (r *reads) readRoom(ctx context.Context, room string) {
	read := &roomRead{room: room}
	r.order.Lock()
	r.active = append(r.active, read)
	r.order.Unlock()

	r.mu.Lock()
	waiting := r.rooms[room]
	delete(r.rooms, room) // who asks from now on needs a later read
	r.mu.Unlock()

	for try := 1; ; try++ {
		members, err := r.presence.Snapshot(ctx, room)
		var snap *snapshot
		if err == nil {
			snap = roomSnapshot(members)
		} else {
			r.log.Debug("presence read failed", "error", err)
		}
		r.order.Lock()
		if err == nil && read.overtaken(members) && try < readTries {
			r.order.Unlock()
			continue
		}
		for _, done := range waiting {
			done(snap, err)
		}
		r.active = slices.DeleteFunc(r.active, func(other *roomRead) bool { return other == read })
		r.order.Unlock()
		return
	}
}

// update has send tell the room's members on this node of u, in order with the
// snapshots that others of them are answered with.
func (r *reads) update(u state.PresenceUpdate, send func()) {
	r.order.Lock()
	defer r.order.Unlock()
	for _, read := range r.active {
		if read.room == u.Room {
			read.last = u
		}
	}
	send()
}

// online reads which users are online and calls done on another goroutine.
func (r *reads) online(users []string, done func(*snapshot, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(func(ctx context.Context) {
		online, err := r.presence.Online(ctx, users)
		if err != nil {
			r.log.Debug("presence read failed", "error", err)
			done(nil, err)
			return
		}
		done(onlineSnapshot(users, online), nil)
	})
}

// add queues a read; the caller holds mu.
func (r *reads) add(read func(context.Context)) {
	r.queue = append(r.queue, read)
	if r.readers < maxReaders {
		r.readers++
		go r.work()
	}
}

// work runs queued reads until there are none.
func (r *reads) work() {
	for {
		r.mu.Lock()
		if len(r.queue) == 0 {
			r.queue = nil
			r.readers--
			r.mu.Unlock()
			return
		}
		read := r.queue[0]
		r.queue[0] = nil
		r.queue = r.queue[1:]
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
		read(ctx)
		cancel()
	}
}
