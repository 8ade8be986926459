package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Plan is who is in the crowd.
type Plan struct {
	Users   int
	Rooms   int
	Each    int      // rooms of a device
	Targets []string // nodes, host:port
}

// Shares of users with several devices, in tenths, and how many rooms a user chooses from: few enough
// that devices of one user often meet in a room.
const (
	tenthsTwo   = 2
	tenthsThree = 1
	extraRooms  = 2
)

// dialing bounds how many handshakes are under way at once.
const dialing = 64

// Crowd is all devices and observers. Safe for concurrent use.
type Crowd struct {
	Roster *Roster

	ctx     context.Context
	cancel  context.CancelFunc
	targets []string
	each    int
	devices []*device
	slots   chan struct{} // for handshakes
	running sync.WaitGroup

	mu      sync.Mutex // guards what follows, and the devices
	nodes   []nodeView
	version uint64
	busy    int // devices with an operation under way
	events  Events
}

// nodeView is what the crowd thinks of a node.
type nodeView struct {
	down   bool // connect elsewhere
	absent bool // or not at all until it is back
}

// Events counts what clients met that they did not ask for.
type Events struct {
	Lost     map[string]int `json:"connections_lost,omitempty"` // by what ended them
	Refused  map[string]int `json:"refused,omitempty"`          // by event and code
	Failed   map[string]int `json:"connects_failed,omitempty"`  // by error
	Asked    int            `json:"lists_asked_for"`            // by observers that had missed something
	Unparsed int            `json:"updates_unreadable"`
}

func newEvents() Events {
	return Events{Lost: map[string]int{}, Refused: map[string]int{}, Failed: map[string]int{}}
}

// NewCrowd makes devices without connecting them. Besides the users of the plan there is an observer
// on each node in each room, a user of its own.
func NewCrowd(plan Plan) *Crowd {
	c := &Crowd{targets: plan.Targets, each: plan.Each, slots: make(chan struct{}, dialing), events: newEvents()}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.nodes = make([]nodeView, len(plan.Targets))
	var users, rooms []string
	for r := range plan.Rooms {
		rooms = append(rooms, fmt.Sprintf("room%d", r))
	}
	for u := range plan.Users {
		users = append(users, fmt.Sprintf("user%d", u))
		person := &person{choice: rand.Perm(plan.Rooms)[:min(plan.Rooms, plan.Each+extraRooms)]}
		for i := range devicesOf(u) {
			d := &device{user: u, person: person, home: (u + i) % len(plan.Targets), rooms: map[int]membership{}}
			for _, k := range rand.Perm(len(person.choice))[:plan.Each] {
				d.want = append(d.want, person.choice[k])
			}
			c.devices = append(c.devices, d)
		}
	}
	for n := range plan.Targets {
		for r := range rooms {
			d := &device{
				user: len(users), person: &person{}, home: n, rooms: map[int]membership{},
				want: []int{r}, observer: &observer{room: r},
			}
			users = append(users, fmt.Sprintf("observer%d-%d", n+1, r))
			c.devices = append(c.devices, d)
		}
	}
	c.Roster = NewRoster(users, rooms)
	return c
}

// devicesOf deals devices to users.
func devicesOf(user int) int {
	switch tenth := user % 10; {
	case tenth < tenthsThree:
		return 3
	case tenth < tenthsThree+tenthsTwo:
		return 2
	default:
		return 1
	}
}

// Devices returns how many connections the crowd has when all are there.
func (c *Crowd) Devices() int { return len(c.devices) }

// Connect sends all devices on their way; they have arrived when Pending is 0.
func (c *Crowd) Connect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.devices {
		c.start(d, func() { c.settle(d) })
	}
}

// start begins an operation of a device that has none under way. Called with mu.
func (c *Crowd) start(d *device, operation func()) {
	d.busy = true
	c.busy++
	c.version++
	c.running.Go(operation)
}

// Close cuts all connections and ends everything the crowd has started.
func (c *Crowd) Close() {
	c.cancel()
	c.mu.Lock()
	for _, d := range c.devices {
		if d.conn != nil {
			d.conn.Cut()
		}
	}
	c.mu.Unlock()
	c.running.Wait()
}

// Pending returns how many devices have an operation under way.
func (c *Crowd) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.busy
}

// Version changes with the truth.
func (c *Crowd) Version() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version
}

// TakeEvents returns what happened since it was last called.
func (c *Crowd) TakeEvents() Events {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.events
	c.events = newEvents()
	return e
}

// Online returns how many sockets are open on each node.
func (c *Crowd) Online() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := make([]int, len(c.nodes))
	for _, d := range c.devices {
		if d.phase == online {
			n[d.node]++
		}
	}
	return n
}

// Truth tells what the keys must say. What changed after since counts as undecided, because a look at
// the keys takes time and an open socket's presence follows the answer to CONNECT; the zero time
// forgives only what is under way.
func (c *Crowd) Truth(since time.Time) *Truth {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := NewTruth(c.Roster)
	t.Pending, t.Version = c.busy, c.version
	fresh := func(changed time.Time) bool { return !since.IsZero() && changed.After(since) }
	for _, d := range c.devices {
		unsure := d.phase == connecting || d.phase == closing || fresh(d.changed)
		switch {
		case unsure:
			t.Online[d.user] = max(t.Online[d.user], Undecided)
			t.Moving[d.user] = true
		case d.phase == online:
			t.Online[d.user] = Present
		}
		if d.phase == online || d.phase == closing {
			t.Sockets[d.user] = append(t.Sockets[d.user], d.sid)
		}
		for room, m := range d.rooms {
			entry := &t.InRoom[room][d.user]
			switch {
			case m.state == joining || m.state == leaving || fresh(m.changed) || m.state == joined && d.phase == closing:
				*entry = max(*entry, Undecided)
			case m.state == joined:
				*entry = Present
			case m.changed.Before(time.Now().Add(-time.Minute)):
				delete(d.rooms, room) // left long ago
			}
		}
	}
	return t
}

// Down makes a node one that clients do not connect to. absent: those whose home it is stay away until
// Up; otherwise they return to the others at once.
func (c *Crowd) Down(node int, absent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[node] = nodeView{down: true, absent: absent}
}

// Up makes the node one to connect to again, and sends home whoever belongs there.
func (c *Crowd) Up(node int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[node] = nodeView{}
	for _, d := range c.devices {
		switch {
		case d.home != node || d.busy:
		case d.absent:
			d.absent = false
			c.start(d, func() { c.comeBack(d) })
		case d.phase == online && d.node != node:
			c.start(d, func() { c.reconnect(d, false, 0) })
		}
	}
}

// Freeze keeps churn away from three quarters of the users that have a device on a node, so that what
// becomes of them is known for certain, and returns when none of them has anything under way.
func (c *Crowd) Freeze(ctx context.Context, node int) error {
	c.mu.Lock()
	for _, d := range c.devices {
		if d.phase == online && d.node == node && d.user%4 != 0 {
			d.person.frozen = true
		}
	}
	c.mu.Unlock()
	for {
		c.mu.Lock()
		moving := slices.ContainsFunc(c.devices, func(d *device) bool { return d.person.frozen && d.busy })
		c.mu.Unlock()
		if !moving {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// Thaw undoes Freeze.
func (c *Crowd) Thaw() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.devices {
		d.person.frozen = false
	}
}

// pause waits, unless it is interrupted.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
