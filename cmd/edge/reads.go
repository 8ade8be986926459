package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Bounds of presence reads.
const (
	maxReaders  = 16              // goroutines reading at a time
	readTimeout = 2 * time.Second // per read; a client's question must not wait for a Redis that is away
)

// reads runs presence reads off the pollers, on at most maxReaders goroutines
// that exist only while there is work. All who wait for the same room share
// one read, which begins after the last of them asked: five thousand joins of
// one room cost a handful of reads, and none misses its own join. The queue is
// bounded by the sockets, each of which has one read open at most.
type reads struct {
	presence presence
	log      *slog.Logger

	mu      sync.Mutex
	rooms   map[string][]func(*snapshot, error) // who waits for a read that has not begun
	queue   []func(context.Context)
	readers int
}

func newReads(p presence, log *slog.Logger) *reads {
	return &reads{presence: p, log: log, rooms: map[string][]func(*snapshot, error){}}
}

// members reads a room's users and calls done on another goroutine.
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
	r.mu.Lock()
	waiting := r.rooms[room]
	delete(r.rooms, room) // who asks from now on needs a later read
	r.mu.Unlock()

	users, count, err := r.presence.Members(ctx, room, maxListed)
	var snap *snapshot
	if err == nil {
		snap = roomSnapshot(room, users, count)
	} else {
		r.log.Debug("presence read failed", "error", err)
	}
	for _, done := range waiting {
		done(snap, err)
	}
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
