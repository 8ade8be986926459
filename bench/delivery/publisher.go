package delivery

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stellara/edge/bench/guest"
)

// answerTimeout is how long a publisher waits for an acknowledgement before it takes the message's fate
// for unknown; the edge says so itself after 10 s.
const answerTimeout = 15 * time.Second

// codeUnknown is the acknowledgement of a message that may have been published.
const codeUnknown = "unknown"

// Publisher sends numbered messages to one room, each only after the one before was acknowledged. A
// message whose fate is unknown is sent again under the same id, over another connection, until it is
// acknowledged. Publish and Run are for one goroutine.
type Publisher struct {
	fleet  *Fleet
	room   string
	stream int
	ids    bool // whether messages have ids
	conn   *guest.Conn

	begun   atomic.Uint64 // number of the latest message that was sent, or tried to be
	acked   atomic.Uint64 // number of the latest one that was acknowledged
	pad     atomic.Int64  // bytes that the next message is larger by
	sent    [sentKept]atomic.Int64
	running sync.WaitGroup

	mu    sync.Mutex
	stats PublisherStats
}

// PublisherStats is what publishers went through.
type PublisherStats struct {
	Published uint64         `json:"published"`
	Repeated  map[string]int `json:"repeated,omitempty"` // messages sent again, by why
	Refused   map[string]int `json:"refused,omitempty"`  // acknowledgements by code
	Longest   time.Duration  `json:"longest_ns"`         // from sending to the acknowledgement, repetitions included
}

// Add adds others'.
func (s *PublisherStats) Add(o PublisherStats) {
	if s.Repeated == nil {
		s.Repeated, s.Refused = map[string]int{}, map[string]int{}
	}
	s.Published += o.Published
	s.Longest = max(s.Longest, o.Longest)
	for k, n := range o.Repeated {
		s.Repeated[k] += n
	}
	for k, n := range o.Refused {
		s.Refused[k] += n
	}
}

// NewPublisher makes a publisher that is not connected yet. Without ids a message that is sent again may
// come twice.
func NewPublisher(fleet *Fleet, room string, stream int, ids bool) *Publisher {
	return &Publisher{fleet: fleet, room: room, stream: stream, ids: ids}
}

// sentKept is for how many of the latest messages it is known when they were sent.
const sentKept = 512

// SentAt is when a message was sent for the first time, in Unix nanoseconds, as long as no more than some hundred
// followed it; safe for concurrent use.
func (p *Publisher) SentAt(n uint64) (at int64, ok bool) {
	if begun := p.begun.Load(); n == 0 || n > begun || n+sentKept <= begun {
		return 0, false
	}
	return p.sent[n%sentKept].Load(), true
}

// Begun is the number of the latest message that was sent or is on its way; safe for concurrent use.
func (p *Publisher) Begun() uint64 { return p.begun.Load() }

// Acked is the number of the latest message that was acknowledged; safe for concurrent use.
func (p *Publisher) Acked() uint64 { return p.acked.Load() }

// Pad makes the next message larger; safe for concurrent use.
func (p *Publisher) Pad(bytes int) { p.pad.Store(int64(bytes)) }

// TakeStats returns what happened since it was last called; safe for concurrent use.
func (p *Publisher) TakeStats() PublisherStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	p.stats = PublisherStats{}
	return s
}

func (p *Publisher) count(f func(*PublisherStats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stats.Repeated == nil {
		p.stats.Repeated, p.stats.Refused = map[string]int{}, map[string]int{}
	}
	f(&p.stats)
}

// Run publishes at a pace until stop is closed and the message under way is acknowledged, or ctx ends.
func (p *Publisher) Run(ctx context.Context, every time.Duration, stop <-chan struct{}) {
	next := time.NewTimer(rand.N(every))
	defer next.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		case <-next.C:
		}
		began := time.Now()
		if p.Publish(ctx) != nil {
			return
		}
		next.Reset(max(every-time.Since(began), 0)) // what was held up is not caught up on
	}
}

// Publish sends the next message and returns when it is acknowledged, or ctx ended.
func (p *Publisher) Publish(ctx context.Context) error {
	n := p.begun.Load() + 1
	p.sent[n%sentKept].Store(time.Now().UnixNano())
	p.begun.Store(n)
	id := ""
	if p.ids {
		id = strconv.FormatUint(n, 10)
	}
	event := appendMessage(nil, p.room, id, p.stream, n, int(p.pad.Swap(0)))
	began := time.Now()
	for again := ""; ; {
		if again != "" {
			p.count(func(s *PublisherStats) { s.Repeated[again]++ })
		}
		if err := p.connected(ctx); err != nil {
			return err
		}
		a, err := p.send(ctx, event)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && a.OK:
			p.acked.Store(n)
			p.count(func(s *PublisherStats) { s.Published, s.Longest = s.Published+1, max(s.Longest, time.Since(began)) })
			return nil
		case err != nil:
			again = "connection lost"
			if errors.Is(err, context.DeadlineExceeded) {
				again = "no answer"
			}
			p.leave()
		default:
			again = a.Code
			p.count(func(s *PublisherStats) { s.Refused[a.Code]++ })
			if a.Code == codeUnknown || a.Code == "room_unknown" {
				p.leave()
			}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// send sends a message and waits for the answer.
func (p *Publisher) send(ctx context.Context, event []byte) (guest.Ack, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return p.conn.AskText(ctx, event)
}

// connected makes sure that there is a connection, in the room. It tries until ctx ends.
func (p *Publisher) connected(ctx context.Context) error {
	for p.conn == nil {
		conn, err := guest.Connect(ctx, p.fleet.addrs[p.fleet.pick()], p.fleet.hello("publisher-"+p.room))
		if err == nil {
			p.running.Go(func() { _ = conn.Run(nil) }) // why it ended is part of what AskText returns
			var a guest.Ack
			if a, err = conn.Ask(ctx, "join", p.room, nil); err == nil && a.OK {
				p.conn = conn
				return nil
			}
			conn.Drop()
		}
		if err := pause(ctx, 50*time.Millisecond+rand.N(100*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Publisher) leave() {
	p.conn.Drop()
	p.conn = nil
}

// Close ends the connection. Run must have returned.
func (p *Publisher) Close() {
	if p.conn != nil {
		p.leave()
	}
	p.running.Wait()
}

// TakesIDs asks a node whether it knows messages with ids, as a member of a room that nobody else is in.
func TakesIDs(ctx context.Context, addr string) (bool, error) {
	conn, err := guest.Connect(ctx, addr, guest.Hello{User: "asks-for-ids"})
	if err != nil {
		return false, err
	}
	go func() { _ = conn.Run(nil) }()
	defer conn.Drop()
	const room = "asks-for-ids"
	if _, err := conn.Ask(ctx, "join", room, nil); err != nil {
		return false, err
	}
	a, err := conn.AskText(ctx, appendMessage(nil, room, "1", 0, 1, 0))
	return a.OK, err
}
