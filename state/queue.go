package state

import "time"

// message is one publication on its way to Redis.
type message struct {
	channel string
	payload []byte
	stream  string    // of the journal; "": not journalled
	once    string    // key that marks it as published; "": none
	digest  string    // what is stored under once; "": nothing in particular
	called  time.Time // when it was published
	sent    func()
	done    func(error)
	settled bool // done was called
	awaited bool // it is one of Bus.unsettled
}

// numbered reports whether the message must go in a numbered batch.
func (m *message) numbered() bool { return m.stream != "" || m.once != "" }

// queue is the bounded publish queue: pure state, guarded by its owner.
type queue struct {
	items    []message // items[head:] wait, oldest first
	head     int
	bytes    int // of the waiting payloads
	maxItems int
	maxBytes int
}

func (q *queue) len() int { return len(q.items) - q.head }

// add appends m unless a bound forbids it. A single payload above the byte
// bound is taken when nothing else waits.
func (q *queue) add(m message) bool {
	if q.len() >= q.maxItems || (q.len() > 0 && q.bytes+len(m.payload) > q.maxBytes) {
		return false
	}
	if q.head > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, m)
	q.bytes += len(m.payload)
	return true
}

// Bounds of one numbered batch: a script holds Redis up. A single message may be larger.
const (
	numberedMessages = 256
	numberedBytes    = 1 << 20
)

// next moves the messages that are sent together, oldest first, to the end of
// into: up to batchCommands that are each on their own; or fewer of which one at
// least must be numbered, so that all are.
func (q *queue) next(into []message) (batch []message, numbered bool) {
	count, bytes := 0, 0
	batch = q.takeWhile(into, batchCommands, func(m *message) bool {
		if m.numbered() || numbered {
			if count > 0 && (count >= numberedMessages || bytes+len(m.payload) > numberedBytes) {
				return false
			}
			numbered = true
		}
		count++
		bytes += len(m.payload)
		return true
	})
	return batch, numbered
}

// take moves up to limit messages, oldest first, to the end of into.
func (q *queue) take(into []message, limit int) []message {
	return q.takeWhile(into, limit, func(*message) bool { return true })
}

// expired moves the messages published before deadline to the end of into.
func (q *queue) expired(into []message, deadline time.Time) []message {
	return q.takeWhile(into, q.len(), func(m *message) bool { return m.called.Before(deadline) })
}

func (q *queue) takeWhile(into []message, limit int, wanted func(*message) bool) []message {
	for limit > 0 && q.head < len(q.items) && wanted(&q.items[q.head]) {
		m := &q.items[q.head]
		into = append(into, *m)
		q.bytes -= len(m.payload)
		*m = message{}
		q.head++
		limit--
	}
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return into
}
