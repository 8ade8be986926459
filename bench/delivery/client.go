package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/stellara/edge/bench/guest"
)

// client is one Socket.IO client that wants its session back. What the official client remembers it
// remembers likewise, also where that is odd: the offset outlives the session, and so do events that came
// before an answer to CONNECT that never came.
type client struct {
	crowd *Crowd
	name  string
	home  int // node to connect to at first, -1 for any

	mu      sync.Mutex
	conn    *guest.Conn // nil while it is away
	pid     string
	offset  string
	early   [][]byte // events before the answer to CONNECT
	rooms   []int    // to be in
	history History
	session *Session       // the last one of history, nil before the first
	began   time.Time      // the session
	last    map[int]uint64 // highest number received, by stream
	gone    time.Time      // when the latest connection was lost; zero before the first
	dropped bool           // on purpose: stay away for a while
	away    time.Duration  // for how long then
	held    bool           // away until it is let go
	spoil   bool           // come back with another pid
	changes Changes        // of presence, that it was told
	free    chan struct{}  // closed when it is no longer held
}

// live connects again and again until ctx ends.
func (k *client) live(ctx context.Context) {
	for ctx.Err() == nil {
		conn, err := k.connect(ctx)
		if err != nil {
			k.crowd.note(func(e *Events) { e.Failed[guest.Cause(err)]++ })
			_ = pause(ctx, 100*time.Millisecond+rand.N(400*time.Millisecond))
			continue
		}
		over := make(chan struct{})
		k.crowd.running.Go(func() {
			defer close(over)
			k.ended(conn.Run(k.event))
		})
		if ctx.Err() != nil {
			conn.Cut() // Close may have looked before the connection was there
		}
		k.join(ctx, conn)
		<-over
		k.rest(ctx)
	}
}

// rest is the time between two connections: what a test asks for, or the moment that clients take to
// notice, which is not the same for all.
func (k *client) rest(ctx context.Context) {
	k.mu.Lock()
	d, free := k.crowd.plan.Notice, k.free
	if d > 0 {
		d = d/2 + rand.N(d)
	}
	if k.dropped {
		d, k.dropped = k.away, false
	}
	held := k.held
	k.mu.Unlock()
	if !held {
		_ = pause(ctx, d)
		return
	}
	select {
	case <-free:
	case <-ctx.Done():
	}
}

// connect opens a connection and takes the answer to CONNECT.
func (k *client) connect(ctx context.Context) (*guest.Conn, error) {
	select {
	case k.crowd.slots <- struct{}{}:
		defer func() { <-k.crowd.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	k.mu.Lock()
	first := k.gone.IsZero()
	if k.spoil && k.pid != "" {
		k.spoil, k.pid = false, spoiled(k.pid)
	}
	hello := k.crowd.fleet.hello(k.name)
	hello.PID, hello.Early = k.pid, k.buffer
	if k.pid != "" {
		hello.Offset = k.offset
	}
	k.mu.Unlock()
	node := k.home
	if !first || node < 0 {
		node = k.crowd.fleet.pick()
	}
	conn, err := guest.Connect(ctx, k.crowd.fleet.addrs[node], hello)
	if err != nil {
		return nil, err
	}
	k.greeted(conn)
	return conn, nil
}

// spoiled is another pid of the same shape.
func spoiled(pid string) string {
	b := []byte(pid)
	slices.Reverse(b)
	if string(b) == pid {
		b[0] ^= 1
	}
	return string(b)
}

// buffer keeps an event that came before the answer to CONNECT.
func (k *client) buffer(event []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.early = append(k.early, slices.Clone(event))
}

// greeted takes the answer to CONNECT: the session goes on if its pid is the client's, else another one
// begins.
func (k *client) greeted(conn *guest.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	recovered := conn.PID() != "" && conn.PID() == k.pid
	phase, now := k.crowd.fleet.now(), time.Now()
	if !k.gone.IsZero() {
		k.crowd.returned(phase, Return{Recovered: recovered, Away: now.Sub(k.gone), Session: k.began, At: now, Missed: len(k.early)})
	}
	k.pid, k.conn = conn.PID(), conn
	if !recovered {
		k.history.Sessions = append(k.history.Sessions, Session{Phase: phase})
		k.session, k.began = &k.history.Sessions[len(k.history.Sessions)-1], now
	}
	k.session.Conns++
	for _, event := range k.early {
		k.take(event)
	}
	k.early = nil
}

// event takes an event of an open connection.
func (k *client) event(event []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.take(event)
}

// take handles an event as the official client does, and writes down a message. Called with mu.
func (k *client) take(event []byte) {
	if offset, ok := offsetOf(event); ok && k.pid != "" {
		k.offset = offset
	}
	if !bytes.HasPrefix(event, []byte(`["message",`)) {
		if bytes.Contains(event, []byte(`"joined":["`)) {
			k.changes.Joined++
		}
		if bytes.Contains(event, []byte(`"left":["`)) {
			k.changes.Left++
		}
		return
	}
	stream, n, ok := k.crowd.plan.Read(event)
	if !ok {
		k.session.Strange++
		return
	}
	k.session.add(stream, n, k.crowd.fleet.now(), time.Now())
	k.last[stream] = max(k.last[stream], n)
}

// join enters all rooms that this session is not in yet. Where that fails the connection has ended, or is
// ended.
func (k *client) join(ctx context.Context, conn *guest.Conn) {
	k.mu.Lock()
	session := len(k.history.Sessions)
	var missing []int
	for _, room := range k.rooms {
		if !k.joined(room) {
			missing = append(missing, room)
		}
	}
	k.mu.Unlock()
	for _, room := range missing {
		if !k.enter(ctx, conn, room, session) {
			return
		}
	}
}

// joined reports whether this session is in a room. Called with mu.
func (k *client) joined(room int) bool {
	streams := k.crowd.plan.Streams(room)
	return k.session != nil && !slices.ContainsFunc(streams, func(s int) bool { return !k.session.member(s) })
}

// enter joins one room. What must come from now on is what begins after the acknowledgement.
func (k *client) enter(ctx context.Context, conn *guest.Conn, room, session int) bool {
	k.mu.Lock()
	for _, s := range k.crowd.plan.Streams(room) {
		k.session.ask(s, k.crowd.plan.Floor(s), k.crowd.fleet.now())
	}
	k.mu.Unlock()
	a, err := conn.Ask(ctx, "join", k.crowd.plan.Room(room), func(a guest.Ack) {
		k.mu.Lock()
		defer k.mu.Unlock()
		if !a.OK || len(k.history.Sessions) != session {
			return
		}
		for _, s := range k.crowd.plan.Streams(room) {
			k.session.admit(s, k.crowd.plan.Due(s), k.crowd.fleet.now())
		}
	})
	if err == nil && a.OK {
		return true
	}
	if err == nil {
		k.crowd.note(func(e *Events) { e.Refused["join "+a.Code]++ })
	}
	if !errors.Is(err, guest.ErrEnded) { // else it may have been abandoned, and must stay open
		conn.Drop()
	}
	return false
}

// ended notes the end of a connection.
func (k *client) ended(err error) {
	k.mu.Lock()
	k.gone, k.conn = time.Now(), nil
	dropped := k.dropped
	k.session.End, k.session.Dropped = k.gone, dropped
	k.mu.Unlock()
	if !dropped && k.crowd.ctx.Err() == nil {
		k.crowd.note(func(e *Events) { e.Lost[guest.Cause(err)]++ })
	}
}

// behind is Crowd.Behind for one client. Called with mu.
func (k *client) behind(numbers map[int]uint64) bool {
	for _, room := range k.rooms {
		for _, s := range k.crowd.plan.Streams(room) {
			if k.last[s] < numbers[s] {
				return true
			}
		}
	}
	return false
}

// state says how the client is, for people. Called with mu.
func (k *client) state() string {
	var what string
	switch {
	case k.dropped:
		what = "away for a while"
	case k.conn == nil:
		what = fmt.Sprintf("without a connection for %.1f s", time.Since(k.gone).Seconds())
	case slices.ContainsFunc(k.rooms, func(room int) bool { return !k.joined(room) }):
		what = fmt.Sprintf("waiting for the answer to its join on %s", k.conn.Addr())
	default:
		what = fmt.Sprintf("connected to %s, in its rooms", k.conn.Addr())
	}
	return fmt.Sprintf("%s is %s; session %d began %.1f s ago, of which it has %v", k.name, what, len(k.history.Sessions),
		time.Since(k.began).Seconds(), k.last)
}

// drop lets the connection fall silent without a word, and the client come back after a while. It reports whether there was a connection.
func (k *client) drop(away time.Duration) bool {
	k.mu.Lock()
	conn := k.conn
	if conn == nil || k.dropped {
		k.mu.Unlock()
		return false
	}
	k.dropped, k.away = true, away
	k.mu.Unlock()
	conn.Abandon()
	k.crowd.running.Go(func() { conn.Linger(k.crowd.ctx) })
	return true
}

// cut ends the connection without a word, and lets the client come back after a while. It reports whether there was one.
func (k *client) cut(away time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn == nil || k.dropped {
		return false
	}
	k.dropped, k.away = true, away
	k.conn.Cut()
	return true
}

// hold makes the client stay away, once it has lost its connection, until it is released.
func (k *client) hold() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.held {
		k.held, k.free = true, make(chan struct{})
	}
}

// release lets a held client come back.
func (k *client) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held {
		k.held = false
		close(k.free)
	}
}
