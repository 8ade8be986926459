package state

import (
	"unsafe"

	"github.com/redis/rueidis"
)

// routes tells what a Pub/Sub message is for. It is immutable: the reader
// takes the current one per message, without a lock.
type routes struct {
	namespaces []string
	patterns   map[string]string   // pattern → namespace
	requests   map[string]string   // request channel → namespace
	responses  map[string]struct{} // response channels
	streams    map[string]string   // namespace → stream of its journal
}

// with returns routes that know ns too.
func (r *routes) with(b *Bus, ns string) *routes {
	n := &routes{
		patterns: make(map[string]string), requests: make(map[string]string), responses: make(map[string]struct{}),
		streams: make(map[string]string),
	}
	n.namespaces = append(append(n.namespaces, r.namespaces...), ns)
	for _, ns := range n.namespaces {
		n.streams[ns] = b.journal.streamKey(ns)
		n.patterns[b.channels.Pattern(ns)] = ns
		n.patterns[b.channels.PrivatePattern(ns, b.node)] = ns
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
	r := b.routes.Load()
	if m.Pattern != "" {
		if m.Pattern == presencePattern {
			b.receivePresence(m.Channel, m.Message)
		} else if ns, ok := r.patterns[m.Pattern]; ok {
			b.deliver(ns, m)
		}
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
		delivered = b.deliver(ns, m) || delivered
	}
	if !delivered {
		b.receivePresence(m.Channel, m.Message)
	}
}

func (b *Bus) deliver(ns string, m rueidis.PubSubMessage) bool {
	room, ok := b.channels.RoomOf(ns, m.Channel)
	if ok {
		b.deliverer.Deliver(ns, room, readOnly(m.Message))
	}
	return ok
}

// readOnly is s as bytes, not copied: whoever gets them must not write.
func readOnly(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
