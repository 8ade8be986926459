package state

import (
	"strings"
	"unsafe"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/socketio"
)

// routes tells what a Pub/Sub message is for. It is immutable: the reader
// takes the current one per message, without a lock.
type routes struct {
	namespaces []string
	patterns   map[string]string   // pattern → namespace
	requests   map[string]string   // request channel → namespace
	responses  map[string]struct{} // response channels
	streams    map[string]string   // namespace → stream of its journal
	control    string              // pattern of the node's own channel
	ambiguous  bool                // a channel may be of more than one namespace: a name contains #
}

// with returns routes that know ns too.
func (r *routes) with(b *Bus, ns string) *routes {
	n := &routes{
		patterns: make(map[string]string), requests: make(map[string]string), responses: make(map[string]struct{}),
		streams: make(map[string]string),
	}
	n.namespaces = append(append(n.namespaces, r.namespaces...), ns)
	n.control = socketio.EscapeGlob(b.control)
	for _, ns := range n.namespaces {
		n.ambiguous = n.ambiguous || strings.Contains(ns, "#")
		n.streams[ns] = b.journal.streamKey(ns)
		n.patterns[b.channels.Pattern(ns)] = ns
		n.patterns[b.channels.PrivatePattern(ns, b.node)] = ns
		if b.subs.heard != "" { // set before anything is opened
			n.patterns[b.channels.PrefixPattern(ns, b.subs.heard)] = ns
		}
		n.requests[b.channels.Request(ns)] = ns
		n.responses[b.channels.Response(ns)] = struct{}{}
		n.responses[b.channels.ResponseTo(ns, b.uid)] = struct{}{}
	}
	return n
}

// receive takes one message from the Pub/Sub reader, in arrival order. A
// channel that is wanted exactly and covered by a pattern of the same namespace
// does not exist, so nothing arrives twice.
func (b *Bus) receive(m rueidis.PubSubMessage) {
	b.received.Add(1)
	b.ears.Lock()
	b.route(m)
	b.ears.Unlock()
	b.received.Add(1)
}

// route is receive under ears.
func (b *Bus) route(m rueidis.PubSubMessage) {
	r := b.routes.Load()
	if m.Pattern != "" {
		if m.Pattern == presencePattern {
			b.receivePresence(m.Channel, m.Message)
		} else if ns, ok := r.patterns[m.Pattern]; ok {
			b.deliver(ns, m, r.ambiguous)
		} else if m.Pattern == r.control {
			b.receiveControl(m.Message)
		}
		return
	}
	if m.Channel == b.control {
		b.receiveControl(m.Message)
		return
	}
	if ns, ok := r.requests[m.Channel]; ok {
		b.receiveRequest(ns, readOnly(m.Message))
		return
	}
	if _, ok := r.responses[m.Channel]; ok {
		b.receiveResponse(readOnly(m.Message))
		return
	}
	delivered := false
	for _, ns := range r.namespaces { // more than one if a namespace's name contains #
		delivered = b.deliver(ns, m, r.ambiguous) || delivered
	}
	if !delivered {
		b.receivePresence(m.Channel, m.Message)
	}
}

func (b *Bus) deliver(ns string, m rueidis.PubSubMessage, ambiguous bool) bool {
	room, ok := b.channels.RoomOf(ns, m.Channel)
	if !ok {
		return false
	}
	payload := readOnly(m.Message)
	if b.journal.on {
		o, ok := socketio.EntryOf(payload)
		if ok && (!ambiguous || b.isOf(ns, payload)) && !b.hearsEntry(ns, o) {
			return true
		}
	}
	b.deliverer.Deliver(ns, room, payload)
	return true
}

// isOf reports whether a message is of the namespace.
func (b *Bus) isOf(ns string, payload []byte) bool {
	return socketio.ParseBroadcast(payload, &b.parsed) == nil && b.parsed.Namespace == ns
}

// readOnly is s as bytes, not copied: whoever gets them must not write.
func readOnly(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
