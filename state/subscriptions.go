package state

import (
	"strings"

	"github.com/stellara/edge/socketio"
)

// topic names one Redis subscription: a channel or a pattern.
type topic struct {
	name    string
	pattern bool
}

// subscription is what we want of a topic and what Redis knows about it.
type subscription struct {
	topic
	namespace *namespaceWant // of a topic of the whole namespace; nil else
	rooms     []*roomWant    // the rooms a topic exists for; one, save for namespaces whose channels coincide
	sent      bool           // the last command sent subscribes
	pending   int            // commands not yet confirmed
	restoring bool           // was wanted when the connection was lost, and is not live again yet
	queued    bool           // in subscriptions.dirty
}

func (s *subscription) wanted() bool { return s.namespace != nil || len(s.rooms) > 0 }
func (s *subscription) live() bool   { return s.sent && s.pending == 0 }

// namespaceWant is a namespace the node serves.
type namespaceWant struct {
	name    string
	base    []*subscription // base channel, patterns, request and response channels
	cover   []*subscription // those of base that a room relies on when it has no topic of its own
	private []*subscription // as cover, for rooms of our own sockets, and those with the prefix heard
	rooms   map[string]*roomWant
	// withheld: messages may be missing, so that no room counts as live.
	withheld bool
}

// roomWant is a room the node wants to hear.
type roomWant struct {
	namespace *namespaceWant
	name      string
	gen       uint64
	needs     []*subscription
	own       bool // needs are this room's own, not the namespace's
}

// live reports whether everything published to the room arrives, and nothing is
// missing that came before.
func (r *roomWant) live() bool {
	if r.namespace.withheld {
		return false
	}
	for _, s := range r.needs {
		if !s.live() {
			return false
		}
	}
	return true
}

// announcement is one Deliverer.Subscribed to make.
type announcement struct {
	ns, room string
	gen      uint64
}

// subscriptions is the difference between the wanted subscriptions and those
// Redis has confirmed: pure state, guarded by its owner. Redis confirms every
// command in order, so a topic is live when nothing is pending and the last
// command subscribed.
type subscriptions struct {
	channels   socketio.Channels
	node, uid  string
	byPattern  bool
	control    string   // channel of the node alone, heard with the first namespace; "" if there is none
	heard      string   // Config.HeardRooms
	journalled bool     // namespaces have journals: a new one is withheld until hear
	fresh      []string // namespaces of which the journal is not followed yet: nothing of theirs is to be sent
	topics     map[topic]*subscription
	namespaces map[string]*namespaceWant
	dirty      []*subscription // to be looked at by next
	baseDown   int             // namespace topics not live
	restoring  int             // topics that are
	liveCount  int
}

func newSubscriptions(ch socketio.Channels, node, uid string, byPattern bool) subscriptions {
	return subscriptions{
		channels: ch, node: node, uid: uid, byPattern: byPattern,
		topics: make(map[topic]*subscription), namespaces: make(map[string]*namespaceWant),
	}
}

// open wants the topics of a namespace; again is no change.
func (s *subscriptions) open(ns string) *namespaceWant {
	if n := s.namespaces[ns]; n != nil {
		return n
	}
	n := &namespaceWant{name: ns, rooms: make(map[string]*roomWant), withheld: s.journalled}
	s.namespaces[ns] = n
	if s.journalled {
		s.fresh = append(s.fresh, ns)
	}
	add := func(name string, pattern bool) *subscription {
		t := s.topic(topic{name, pattern})
		if t.namespace == nil {
			t.namespace = n
			if !t.live() {
				s.baseDown++
			}
		}
		n.base = append(n.base, t)
		s.touch(t)
		return t
	}
	if s.byPattern {
		all := add(s.channels.Pattern(ns), true)
		n.cover, n.private = []*subscription{all}, []*subscription{all}
		if ns == presenceNamespace {
			n.cover = append(n.cover, add(presencePattern, true))
		}
	} else {
		add(s.channels.Broadcast(ns), false)
		n.private = []*subscription{add(s.channels.PrivatePattern(ns, s.node), true)}
		if s.heard != "" {
			n.private = append(n.private, add(s.channels.PrefixPattern(ns, s.heard), true))
		}
	}
	if s.control != "" && len(s.namespaces) == 1 {
		if s.byPattern { // the in-process Redis keeps no order between patterns and channels
			add(socketio.EscapeGlob(s.control), true)
		} else {
			add(s.control, false)
		}
	}
	add(s.channels.Request(ns), false)
	add(s.channels.Response(ns), false)
	add(s.channels.ResponseTo(ns, s.uid), false)
	return n
}

// ownRoom reports whether our private patterns cover the room's channel.
// Redis's ? matches one byte, so lengths are bytes.
func (s *subscriptions) ownRoom(room string) bool {
	return len(room) == 20 && room[:8] == s.node || s.heard != "" && strings.HasPrefix(room, s.heard)
}

// want asks for a room under a new generation. It returns the announcement to
// make if the room is live already.
func (s *subscriptions) want(ns, room string, gen uint64) (announcement, bool) {
	n := s.open(ns)
	r := n.rooms[room]
	if r == nil {
		r = &roomWant{namespace: n, name: room}
		n.rooms[room] = r
		s.connectRoom(r)
	}
	r.gen = gen
	return announcement{ns, room, gen}, r.live()
}

func (s *subscriptions) connectRoom(r *roomWant) {
	switch n := r.namespace; {
	case s.ownRoom(r.name):
		r.needs = n.private
	case s.byPattern:
		r.needs = n.cover
	default:
		r.own = true
		s.need(r, s.channels.Room(n.name, r.name))
		if n.name == presenceNamespace && ValidID("room", r.name) == nil {
			s.need(r, presenceChannel(r.name))
		}
	}
}

func (s *subscriptions) need(r *roomWant, channel string) {
	t := s.topic(topic{channel, false})
	t.rooms = append(t.rooms, r)
	r.needs = append(r.needs, t)
	s.touch(t)
}

// forget stops wanting a room, unless a later generation wants it.
func (s *subscriptions) forget(ns, room string, gen uint64) {
	n := s.namespaces[ns]
	if n == nil {
		return
	}
	r := n.rooms[room]
	if r == nil || r.gen != gen {
		return
	}
	delete(n.rooms, room)
	if !r.own {
		return
	}
	for _, t := range r.needs {
		for i := range t.rooms {
			if t.rooms[i] == r {
				t.rooms = append(t.rooms[:i], t.rooms[i+1:]...)
				break
			}
		}
		s.touch(t)
	}
}

// hears reports whether all topics of the namespace are live.
func (s *subscriptions) hears(ns string) bool {
	n := s.namespaces[ns]
	if n == nil {
		return false
	}
	for _, t := range n.base {
		if !t.live() {
			return false
		}
	}
	return true
}

// controlLive reports whether the node's own channel is heard.
func (s *subscriptions) controlLive() bool {
	t := s.topics[topic{s.control, false}]
	if s.byPattern {
		t = s.topics[topic{socketio.EscapeGlob(s.control), true}]
	}
	return t != nil && t.live()
}

// withholdAll says that messages may be missing, of all namespaces.
func (s *subscriptions) withholdAll() {
	for _, n := range s.namespaces {
		n.withheld = s.journalled
	}
}

// hear says that nothing is missing of a namespace any more, and appends the
// announcements that this allows.
func (s *subscriptions) hear(ns string, into []announcement) []announcement {
	n := s.namespaces[ns]
	n.withheld = false
	for _, r := range n.rooms {
		if r.live() {
			into = append(into, announcement{ns, r.name, r.gen})
		}
	}
	return into
}

// restored says that t is live again, or not wanted any more.
func (s *subscriptions) restored(t *subscription) {
	if t.restoring {
		t.restoring = false
		s.restoring--
	}
}

// wants reports whether the room is wanted.
func (s *subscriptions) wants(ns, room string) bool {
	n := s.namespaces[ns]
	return n != nil && n.rooms[room] != nil
}

func (s *subscriptions) topic(name topic) *subscription {
	t := s.topics[name]
	if t == nil {
		t = &subscription{topic: name}
		s.topics[name] = t
	}
	return t
}

// touch has next look at t.
func (s *subscriptions) touch(t *subscription) {
	if !t.queued {
		t.queued = true
		s.dirty = append(s.dirty, t)
	}
}

// commands are the names for one command each: SUBSCRIBE, PSUBSCRIBE, UNSUBSCRIBE.
type commands struct{ subscribe, psubscribe, unsubscribe []string }

func (c *commands) len() int { return len(c.subscribe) + len(c.psubscribe) + len(c.unsubscribe) }

// next returns up to limit changes to send and counts them as sent. Patterns
// belong to namespaces, which stay: there is no PUNSUBSCRIBE.
func (s *subscriptions) next(limit int) commands {
	var c commands
	i := 0
	for ; i < len(s.dirty) && c.len() < limit; i++ {
		t := s.dirty[i]
		t.queued = false
		switch {
		case t.wanted() == t.sent:
			s.drop(t)
			continue
		case !t.wanted():
			c.unsubscribe = append(c.unsubscribe, t.name)
		case t.pattern:
			c.psubscribe = append(c.psubscribe, t.name)
		default:
			c.subscribe = append(c.subscribe, t.name)
		}
		if t.live() {
			s.liveCount--
		}
		t.sent = !t.sent
		t.pending++
	}
	if s.dirty = s.dirty[i:]; len(s.dirty) == 0 {
		s.dirty = nil
	}
	return c
}

// drop forgets a topic nobody wants and Redis no longer has.
func (s *subscriptions) drop(t *subscription) {
	if !t.wanted() && !t.sent && t.pending == 0 && !t.queued {
		s.restored(t)
		delete(s.topics, t.topic)
	}
}

// confirm takes one confirmation from Redis and appends the announcements it allows.
func (s *subscriptions) confirm(name topic, into []announcement) []announcement {
	t := s.topics[name]
	if t == nil || t.pending == 0 {
		return into // not ours
	}
	t.pending--
	if !t.live() {
		s.drop(t)
		return into
	}
	s.restored(t)
	s.liveCount++
	for _, r := range t.rooms {
		if r.live() {
			into = append(into, announcement{r.namespace.name, r.name, r.gen})
		}
	}
	if t.namespace == nil {
		return into
	}
	s.baseDown--
	for _, r := range t.namespace.rooms {
		if !r.own && r.live() {
			into = append(into, announcement{t.namespace.name, r.name, r.gen})
		}
	}
	return into
}

// reset forgets all that Redis knew: the connection is a new one.
func (s *subscriptions) reset() {
	s.dirty, s.baseDown, s.liveCount, s.restoring = nil, 0, 0, 0
	again := func(t *subscription) {
		t.queued, t.restoring = true, true
		s.restoring++
		s.dirty = append(s.dirty, t)
	}
	for _, n := range s.namespaces { // before the rooms: the node is ready sooner
		for _, t := range n.base {
			if t.namespace == n { // else another has it, too
				again(t)
				s.baseDown++
			}
		}
	}
	for name, t := range s.topics {
		t.sent, t.pending = false, 0
		switch {
		case t.namespace != nil:
		case !t.wanted():
			delete(s.topics, name)
		default:
			again(t)
		}
	}
}
