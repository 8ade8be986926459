package delivery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Plan is who is in a crowd, and how its messages are told apart.
type Plan struct {
	Prefix  string // of user ids
	Clients int
	Home    int           // node that all connect to at first; -1: any
	Dialing int           // handshakes under way at once
	Notice  time.Duration // what a client takes to come back after it lost its connection, on average

	Rooms   func(client int) []int           // that a client joins
	Room    func(room int) string            // the name of a room
	Streams func(room int) []int             // the numbered streams of messages of a room
	Floor   func(stream int) uint64          // what was published long ago, as of now; 0 if that is not known
	Due     func(stream int) uint64          // the first number that is published from now on; 0 if that is not known
	Read    func([]byte) (int, uint64, bool) // stream and number of a message event
}

// Return is one connection of a client that had one before.
type Return struct {
	Recovered bool
	Away      time.Duration
	At        time.Time
	Session   time.Time // when the session that the client wanted had begun
	Missed    int       // events before the answer to CONNECT
}

// Events counts what clients met that they did not ask for.
type Events struct {
	Lost    map[string]int `json:"connections_lost,omitempty"` // by what ended them
	Refused map[string]int `json:"refused,omitempty"`          // by event and code
	Failed  map[string]int `json:"connects_failed,omitempty"`  // by error
}

func newEvents() Events {
	return Events{Lost: map[string]int{}, Refused: map[string]int{}, Failed: map[string]int{}}
}

// Crowd is clients that stay connected as well as they can. Safe for concurrent use.
type Crowd struct {
	plan    Plan
	fleet   *Fleet
	ctx     context.Context
	cancel  context.CancelFunc
	clients []*client
	slots   chan struct{} // for handshakes
	running sync.WaitGroup

	mu      sync.Mutex
	events  Events
	returns map[int][]Return // by phase
}

// NewCrowd makes clients, which connect to the fleet at once.
func NewCrowd(fleet *Fleet, plan Plan) *Crowd {
	c := &Crowd{plan: plan, fleet: fleet, slots: make(chan struct{}, plan.Dialing), events: newEvents(), returns: map[int][]Return{}}
	if c.plan.Floor == nil {
		c.plan.Floor = func(int) uint64 { return 0 }
	}
	if c.plan.Due == nil {
		c.plan.Due = func(int) uint64 { return 0 }
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	for i := range plan.Clients {
		k := &client{crowd: c, name: fmt.Sprintf("%s%d", plan.Prefix, i), home: plan.Home, rooms: plan.Rooms(i), last: map[int]uint64{}}
		k.history.Client = k.name
		c.clients = append(c.clients, k)
	}
	for _, k := range c.clients {
		c.running.Go(func() { k.live(c.ctx) })
	}
	return c
}

// Close cuts all connections and ends everything the crowd has started.
func (c *Crowd) Close() {
	c.cancel()
	for _, k := range c.clients {
		k.mu.Lock()
		conn := k.conn
		k.mu.Unlock()
		if conn != nil {
			conn.Cut()
		}
	}
	c.running.Wait()
}

func (c *Crowd) note(f func(*Events)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.events)
}

func (c *Crowd) returned(phase int, r Return) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.returns[phase] = append(c.returns[phase], r)
}

// TakeEvents returns what happened since it was last called.
func (c *Crowd) TakeEvents() Events {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.events
	c.events = newEvents()
	return e
}

// Returns are the returns in a phase so far.
func (c *Crowd) Returns(phase int) []Return {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.returns[phase])
}

// Histories are what all clients have received so far.
func (c *Crowd) Histories() []History {
	out := make([]History, 0, len(c.clients))
	for _, k := range c.clients {
		k.mu.Lock()
		h := History{Client: k.history.Client}
		for i := range k.history.Sessions {
			h.Sessions = append(h.Sessions, k.history.Sessions[i].clone())
		}
		k.mu.Unlock()
		out = append(out, h)
	}
	return out
}

// count returns how many clients are not as they should be.
func (c *Crowd) count(wrong func(*client) bool) (n int) {
	for _, k := range c.clients {
		k.mu.Lock()
		if wrong(k) {
			n++
		}
		k.mu.Unlock()
	}
	return n
}

// Absent is how many clients are not connected, or not in all their rooms.
func (c *Crowd) Absent() int {
	return c.count(func(k *client) bool {
		return k.conn == nil || k.dropped || slices.ContainsFunc(k.rooms, func(room int) bool { return !k.joined(room) })
	})
}

// Connected is how many clients are connected.
func (c *Crowd) Connected() int { return c.count(func(k *client) bool { return k.conn != nil }) }

// Behind is how many clients have not received anything at or above the number of a stream of theirs.
func (c *Crowd) Behind(numbers map[int]uint64) int {
	return c.count(func(k *client) bool { return k.behind(numbers) })
}

// Straggler describes one of the clients that are Behind, "" if none is.
func (c *Crowd) Straggler(numbers map[int]uint64) (text string) {
	c.count(func(k *client) bool {
		if text == "" && k.behind(numbers) {
			text = k.state()
		}
		return false
	})
	return text
}

// Lacking is how many clients have not received the last messages of their streams, but for those who
// joined after them.
func (c *Crowd) Lacking(last map[int]uint64) int {
	return c.count(func(k *client) bool {
		return k.session != nil && slices.ContainsFunc(k.session.Members, func(m Membership) bool {
			return m.Acked && k.last[m.Stream] < last[m.Stream] && m.Due <= last[m.Stream]
		})
	})
}

// Drops makes each client fall silent once in every period, evenly spread, and come back after away,
// until the returned function is called.
func (c *Crowd) Drops(every, away time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(c.ctx)
	var dealer sync.WaitGroup
	dealer.Go(func() {
		began := time.Now()
		for i := 0; ; i++ {
			due := began.Add(time.Duration(float64(i) / float64(len(c.clients)) * float64(every)))
			if pause(ctx, time.Until(due)) != nil {
				return
			}
			c.clients[i%len(c.clients)].drop(away)
		}
	})
	return func() {
		cancel()
		dealer.Wait()
	}
}

// DropAll makes all clients that are connected fall silent now, and returns when they have. How long they
// stay away is away, or as Hold says.
func (c *Crowd) DropAll(away time.Duration) {
	var all sync.WaitGroup
	for _, k := range c.clients {
		all.Go(func() { k.drop(away) })
	}
	all.Wait()
}

// Hold keeps clients that lose their connection away until Release.
func (c *Crowd) Hold() {
	for _, k := range c.clients {
		k.hold()
	}
}

// Release undoes Hold.
func (c *Crowd) Release() {
	for _, k := range c.clients {
		k.release()
	}
}

// Spoil makes all clients ask for a session that does not exist when they come back the next time.
func (c *Crowd) Spoil() {
	for _, k := range c.clients {
		k.mu.Lock()
		k.spoil = true
		k.mu.Unlock()
	}
}

// Older is how many clients have a session that began before a moment.
func (c *Crowd) Older(t time.Time) int {
	return c.count(func(k *client) bool { return k.session != nil && k.began.Before(t) })
}

// Enter makes all clients join a room that are not in it. Await it with Absent.
func (c *Crowd) Enter(room int) {
	for _, k := range c.clients {
		k.mu.Lock()
		if slices.Contains(k.rooms, room) {
			k.mu.Unlock()
			continue
		}
		k.rooms = append(slices.Clone(k.rooms), room)
		conn := k.conn
		k.mu.Unlock()
		if conn != nil {
			c.running.Go(func() { k.join(c.ctx, conn) })
		}
	}
}

// CutAll ends the connections of all clients that have one, at once and without a word, and lets each come
// back at a time of its own within spread. It returns how many were cut.
func (c *Crowd) CutAll(spread time.Duration) (cut int) {
	for _, k := range c.clients {
		if k.cut(rand.N(spread)) {
			cut++
		}
	}
	return cut
}

// Sockets are the socket ids of the clients that are connected, by user.
func (c *Crowd) Sockets() map[string]string {
	sids := map[string]string{}
	c.count(func(k *client) bool {
		if k.conn != nil {
			sids[k.name] = k.conn.SID()
		}
		return false
	})
	return sids
}

// Changes is how many presence updates named somebody who joined, or who left.
type Changes struct{ Joined, Left int }

// Changes returns what all clients were told so far.
func (c *Crowd) Changes() (sum Changes) {
	c.count(func(k *client) bool {
		sum.Joined += k.changes.Joined
		sum.Left += k.changes.Left
		return false
	})
	return sum
}
