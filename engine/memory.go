package engine

import (
	"slices"
	"sync"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// memoryEntries bounds a namespace's journal in memory.
const memoryEntries = 100_000

// memory is the Sessions and the journal of a server on its own: the twin of what
// nodes share in Redis. One goroutine does everything, in order.
type memory struct {
	window    time.Duration
	retention time.Duration
	proof     time.Duration // after it, what was sent to an open conn has been received
	epoch     string
	now       func() time.Time

	mu    sync.Mutex // guards tasks, ended; taken alone
	tasks []func()
	wake  chan struct{} // capacity 1
	stop  chan struct{}
	done  chan struct{}

	// Owned by the goroutine.
	journals map[string]*memoryJournal
	sessions map[string]*memorySession
	once     map[string]publishedOnce
	swept    time.Time
}

type memoryJournal struct {
	entries []socketio.JournalEntry
	last    socketio.Offset
	cut     socketio.Offset // everything after it is still there
}

// memorySession is a session; closed is zero while its conn is open.
type memorySession struct {
	socketio.Session
	closed time.Time
	behind socketio.Offset // it has everything up to here; nothing later is proved
	caught time.Time       // when it was sent all that it missed; behind counts until that is proved to have arrived
	seen   time.Time       // everything older was received
}

func newMemory(window, proof time.Duration) *memory {
	return &memory{
		window: window, proof: proof, retention: window + proof + 15*time.Second,
		epoch: randomID(6), now: time.Now,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		journals: make(map[string]*memoryJournal), sessions: make(map[string]*memorySession), once: make(map[string]publishedOnce),
	}
}

// do runs f on the goroutine, in its turn.
func (m *memory) do(f func()) {
	m.mu.Lock()
	m.tasks = append(m.tasks, f)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *memory) run() {
	defer close(m.done)
	for {
		select {
		case <-m.stop:
			return
		case <-m.wake:
		}
		for {
			m.mu.Lock()
			tasks := m.tasks
			m.tasks = nil
			m.mu.Unlock()
			if len(tasks) == 0 {
				break
			}
			for _, f := range tasks {
				f()
			}
			m.sweep()
		}
	}
}

func (m *memory) close() {
	close(m.stop)
	<-m.done
}

// sweep forgets what nobody can ask for any more, now and then.
func (m *memory) sweep() {
	now := m.now()
	if now.Sub(m.swept) < time.Second {
		return
	}
	m.swept = now
	for pid, s := range m.sessions {
		if !s.closed.IsZero() && now.Sub(s.closed) > m.window {
			delete(m.sessions, pid)
		}
	}
	for text, first := range m.once {
		if now.After(first.until) {
			delete(m.once, text)
		}
	}
	for _, j := range m.journals {
		old := uint64(now.Add(-m.retention).UnixMilli())
		n := 0
		for n < len(j.entries) && (j.entries[n].Offset.Ms < old || len(j.entries)-n > memoryEntries) {
			n++
		}
		if n > 0 {
			j.cut = j.entries[n-1].Offset
			j.entries = slices.Clone(j.entries[n:])
		}
	}
}

func (m *memory) journal(ns string) *memoryJournal {
	j := m.journals[ns]
	if j == nil {
		j = &memoryJournal{last: socketio.Offset{Epoch: m.epoch}, cut: socketio.Offset{Epoch: m.epoch}}
		m.journals[ns] = j
	}
	return j
}

// publishedOnce is what is known of a Publication.Once.
type publishedOnce struct {
	digest string
	until  time.Time
}

// publish takes one message and returns what is to be delivered, nil if it was
// published before, or is another one than that. Called on the goroutine.
func (m *memory) publish(p *socketio.Publication) ([]byte, error) {
	now := m.now()
	if p.Once != "" {
		if first, ok := m.once[p.Once]; ok && now.Before(first.until) {
			if p.Digest != "" && p.Digest != first.digest {
				return nil, socketio.ErrOnceConflict
			}
			return nil, nil
		}
		m.once[p.Once] = publishedOnce{p.Digest, now.Add(5 * time.Minute)}
	}
	if !p.Journal {
		return p.Payload, nil
	}
	j := m.journal(p.Namespace)
	at := socketio.Offset{Epoch: m.epoch, Ms: uint64(now.UnixMilli())}
	if !at.After(j.last) {
		at = j.last
		at.Seq++
	}
	j.last = at
	j.entries = append(j.entries, socketio.JournalEntry{Offset: at, Payload: p.Payload})
	return socketio.SetEntry(make([]byte, 0, len(p.Payload)+40), p.Payload, at), nil
}

// Create implements Sessions.
func (m *memory) Create(s *socketio.Session, done func(socketio.Offset, error)) {
	m.do(func() {
		stored := *s
		stored.Generation, stored.Start = 1, m.journal(s.Namespace).last
		stored.Rooms = slices.Clone(s.Rooms)
		for i := range stored.Rooms {
			stored.Rooms[i].Since = stored.Start
		}
		m.sessions[s.PID] = &memorySession{Session: stored}
		done(stored.Start, nil)
	})
}

// owned runs f on a session that ref still names, in its turn.
func (m *memory) owned(ref socketio.SessionRef, done func(error), f func(*memorySession)) {
	m.do(func() {
		if s := m.sessions[ref.PID]; s != nil && s.Generation == ref.Generation {
			f(s)
		}
		settled(done, nil)
	})
}

// Join implements Sessions.
func (m *memory) Join(ref socketio.SessionRef, room string, since socketio.Offset, done func(socketio.Offset, error)) {
	m.owned(ref, func(error) {
		if done != nil {
			done(since, nil)
		}
	}, func(s *memorySession) {
		if since.IsZero() {
			since = m.journal(s.Namespace).last
		}
		if i := slices.IndexFunc(s.Rooms, func(r socketio.SessionRoom) bool { return r.Name == room }); i >= 0 {
			since = s.Rooms[i].Since
			return
		}
		s.Rooms = append(s.Rooms, socketio.SessionRoom{Name: room, Since: since})
	})
}

// Leave implements Sessions.
func (m *memory) Leave(ref socketio.SessionRef, room string, done func(error)) {
	m.owned(ref, done, func(s *memorySession) {
		s.Rooms = slices.DeleteFunc(s.Rooms, func(r socketio.SessionRoom) bool { return r.Name == room })
	})
}

// SetData implements Sessions.
func (m *memory) SetData(ref socketio.SessionRef, data []byte) {
	m.owned(ref, nil, func(s *memorySession) { s.Data = data })
}

// CaughtUp implements Sessions.
func (m *memory) CaughtUp(ref socketio.SessionRef) {
	m.owned(ref, nil, func(s *memorySession) { s.caught = m.now() })
}

// Close implements Sessions.
func (m *memory) Close(ref socketio.SessionRef, done func(error)) {
	m.owned(ref, done, func(s *memorySession) {
		s.closed = m.now()
		s.settle(s.closed, m.proof)
		s.seen = s.closed.Add(-m.proof)
	})
}

// Delete implements Sessions.
func (m *memory) Delete(ref socketio.SessionRef, done func(error)) {
	m.owned(ref, done, func(*memorySession) { delete(m.sessions, ref.PID) })
}

// Claim implements Sessions.
func (m *memory) Claim(c socketio.SessionClaim, done func(*socketio.ClaimedSession, metrics.Recovery)) {
	m.do(func() {
		s := m.sessions[c.PID]
		if s == nil {
			done(nil, metrics.RecoveryUnknown)
			return
		}
		after, seen, result := m.judge(s, &c)
		if result != metrics.RecoveryComplete {
			switch result {
			case metrics.RecoveryUser, metrics.RecoveryUnknown, metrics.RecoveryMalformed: // whose it is may still come
			default:
				delete(m.sessions, c.PID)
			}
			done(nil, result)
			return
		}
		claimed := &socketio.ClaimedSession{Session: s.Session, After: after}
		if s.closed.IsZero() {
			claimed.Owner = "memory"
		}
		claimed.Generation++
		claimed.Rooms = slices.Clone(s.Rooms)
		m.sessions[c.PID] = &memorySession{Session: claimed.Session, behind: after, seen: seen}
		m.sessions[c.PID].Rooms = slices.Clone(s.Rooms)
		done(claimed, metrics.RecoveryComplete)
	})
}

// settle forgets behind when a conn that was open at alive proves more.
func (s *memorySession) settle(alive time.Time, proof time.Duration) {
	if !s.caught.IsZero() && alive.Sub(s.caught) >= proof {
		s.behind, s.caught = socketio.Offset{}, time.Time{}
	}
}

// judge decides about a claim: where the client goes on, and since when that is
// proved. See scripts/session_claim.lua in package state, which decides alike.
func (m *memory) judge(s *memorySession, c *socketio.SessionClaim) (after socketio.Offset, seen time.Time, result metrics.Recovery) {
	now, j := m.now(), m.journal(s.Namespace)
	seen = now.Add(-m.proof) // of an open conn
	if s.closed.IsZero() {
		s.settle(now, m.proof)
	} else {
		seen = s.seen
	}
	switch {
	case s.Namespace != c.Namespace:
		return after, seen, metrics.RecoveryUnknown
	case s.User != c.User:
		return after, seen, metrics.RecoveryUser
	case !s.closed.IsZero() && now.Sub(s.closed) > m.window:
		return after, seen, metrics.RecoveryExpired
	case c.Offset.After(j.last):
		return after, seen, metrics.RecoveryMalformed
	}
	after = s.Start
	if c.Offset.After(after) {
		after = c.Offset
	}
	proved := after
	if received := (socketio.Offset{Epoch: m.epoch, Ms: uint64(max(0, seen.UnixMilli()))}); s.behind.IsZero() && received.After(proved) {
		proved = received
	}
	if j.cut.After(proved) {
		return after, seen, metrics.RecoveryIncomplete
	}
	return after, seen, metrics.RecoveryComplete
}

// Read implements Sessions.
func (m *memory) Read(ns string, after socketio.Offset, done func([]socketio.JournalEntry, socketio.Offset, error)) {
	m.do(func() {
		j := m.journal(ns)
		from, _ := slices.BinarySearchFunc(j.entries, after, func(e socketio.JournalEntry, o socketio.Offset) int {
			if e.Offset.After(o) {
				return 1
			}
			return -1
		})
		done(slices.Clone(j.entries[from:]), j.last, nil)
	})
}

// Drop implements Sessions: the only node has dropped it itself.
func (m *memory) Drop(string, string, string, uint64) {}

// Owner implements Sessions.
func (m *memory) Owner() string { return "memory" }

// Fence implements Sessions.
func (m *memory) Fence(done func(error)) { m.do(func() { done(nil) }) }

// GivenAway implements Sessions.
func (m *memory) GivenAway(socketio.SessionRef) {}

// Move implements Sessions: there is no other node.
func (m *memory) Move(_ socketio.SessionMove, done func(*socketio.MovedSession, error)) {
	m.do(func() { done(nil, socketio.ErrNotOwner) })
}
