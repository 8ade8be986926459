package state

import (
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/stellara/edge/socketio"
)

// request is a request of this node to the whole fleet that is under way.
type request struct {
	// Set by who makes it, then read-only.
	id, ns   string
	kind     socketio.RequestType // RequestAllRooms, RequestRemoteFetch, RequestServerSideEmit or RequestBroadcast
	payload  []byte               // the message for the other nodes
	alone    bool                 // this node only, whatever there is
	patience time.Time            // it must be counted by then
	deadline time.Time            // and answered by then
	local    func()               // starts this node's own part; nil when it has none
	ack      func(packet []byte)  // takes one acknowledgement of a RequestBroadcast
	finish   func(err error)      // takes the end; the collected answers are there

	// The rest belongs to the table.
	position int // in the table's order; -1 when it has ended

	// Expected and received.
	counted bool // nodes is known
	nodes   int  // answers to wait for: this node's own included, save for RequestServerSideEmit
	answers int  // of nodes; of a RequestBroadcast those that say how many clients there are
	clients int  // that got a RequestBroadcast
	acks    int  // that came from them

	// Collected, and how much memory that holds.
	sockets   []socketio.RemoteSocket
	seen      map[string]struct{} // ids of sockets, or names of rooms
	responses []json.RawMessage
	size      int
}

// expires is when the request stops waiting for what it waits for now.
func (r *request) expires() time.Time {
	if !r.counted && r.patience.Before(r.deadline) {
		return r.patience
	}
	return r.deadline
}

// event is what a caller is to be told: an acknowledgement, or the end of its request.
type event struct {
	request *request
	ack     bool
	packet  []byte // of the acknowledgement; nil when the client sent nothing with it
	err     error  // of the end
}

// requestTable is the requests of this node that are under way: pure state,
// guarded by its owner. A request starts, is counted (how many nodes have to
// answer), answered, and ends: complete, failed or late. An answer that comes
// after the end, or for a request of another node, changes nothing.
//
// Answers do not say who sent them. As in every adapter it is their number
// that counts, so that a node which answers twice hides one that does not.
type requestTable struct {
	byID    map[string]*request
	order   requestOrder
	waiting []*request // to be counted; some may have ended
	size    int        // of what all requests collected
	maxSize int
	events  []event // not yet taken
}

func newRequestTable(maxSize int) requestTable {
	return requestTable{byID: make(map[string]*request), maxSize: maxSize}
}

// start enters a request.
func (t *requestTable) start(r *request) {
	t.byID[r.id] = r
	heap.Push(&t.order, r)
	t.waiting = append(t.waiting, r)
}

// uncounted takes the requests that wait to be counted and for whose
// namespace ready says that it can be done.
func (t *requestTable) uncounted(ready func(ns string) bool) []*request {
	var take []*request
	t.waiting = slices.DeleteFunc(t.waiting, func(r *request) bool {
		switch {
		case r.position < 0:
			return true
		case r.alone || ready(r.ns):
			take = append(take, r)
			return true
		}
		return false
	})
	return take
}

// recount puts back requests that could not be counted.
func (t *requestTable) recount(requests []*request) { t.waiting = append(t.waiting, requests...) }

// count says that n nodes hear requests of the namespace, this one included.
// begin means that the request is to be carried out now, publish that there
// are other nodes to send it to.
func (t *requestTable) count(r *request, n int) (begin, publish bool) {
	if r.position < 0 || r.counted {
		return false, false
	}
	n = max(n, 1)
	r.counted, r.nodes = true, n
	if r.kind == socketio.RequestServerSideEmit {
		r.nodes--
	}
	heap.Fix(&t.order, r.position)
	t.complete(r)
	return r.position >= 0, n > 1
}

// fits reports whether the answer is one to such a request. An answer without
// the list that belongs in it (null, as servers send that know nothing) fits:
// Node.js would count it and never complete.
func (r *request) fits(a *socketio.Response) bool {
	switch r.kind {
	case socketio.RequestRemoteFetch:
		return a.HasSockets || !a.HasType && !a.HasRooms
	case socketio.RequestAllRooms:
		return a.HasRooms || !a.HasType && !a.HasSockets
	case socketio.RequestServerSideEmit:
		return a.HasType && a.Type == socketio.RequestServerSideEmit
	default:
		return a.HasType && (a.Type == socketio.RequestBroadcastAck ||
			a.Type == socketio.RequestBroadcastClientCount && a.ClientCount >= 0 && a.ClientCount <= maxClientCount)
	}
}

const (
	maxClientCount = 1 << 40 // of one answer, so that sums do not overflow
	socketSize     = 256     // memory of a described socket besides its text
	textSize       = 48      // memory of a room name or an answer besides its text
)

// answer takes the answer of one node, this one or another. size is the memory
// its text holds.
func (t *requestTable) answer(a *socketio.Response, size int) {
	r := t.byID[a.RequestID]
	if r == nil || !r.counted || !r.fits(a) {
		return
	}
	if r.kind == socketio.RequestBroadcast {
		t.broadcastAnswer(r, a)
		return
	}
	size += socketSize*len(a.Sockets) + textSize*(len(a.Rooms)+1)
	if t.size+size > t.maxSize {
		t.end(r, ErrAnswersTooLarge)
		return
	}
	t.size += size
	r.size += size
	r.answers++
	r.collect(a)
	t.complete(r)
}

// collect keeps what the answer tells, every socket and every room once.
func (r *request) collect(a *socketio.Response) {
	if r.seen == nil {
		r.seen = make(map[string]struct{})
	}
	switch r.kind {
	case socketio.RequestRemoteFetch:
		for i := range a.Sockets {
			if _, again := r.seen[a.Sockets[i].ID]; !again {
				r.seen[a.Sockets[i].ID] = struct{}{}
				r.sockets = append(r.sockets, a.Sockets[i])
			}
		}
	case socketio.RequestAllRooms:
		for _, room := range a.Rooms {
			r.seen[room] = struct{}{}
		}
	default:
		data := a.Data
		if data == nil { // JSON leaves undefined out
			data = json.RawMessage("null")
		}
		r.responses = append(r.responses, data)
	}
}

// broadcastAnswer takes the number of a node's clients, or the acknowledgement
// of one of them. Those of one node may overtake the number of another.
func (t *requestTable) broadcastAnswer(r *request, a *socketio.Response) {
	if a.Type == socketio.RequestBroadcastClientCount {
		r.answers++
		r.clients += a.ClientCount
	} else {
		r.acks++
		t.events = append(t.events, event{request: r, ack: true, packet: a.Packet})
	}
	t.complete(r)
}

// complete ends the request if it has all it waits for.
func (t *requestTable) complete(r *request) {
	if r.answers >= r.nodes && (r.kind != socketio.RequestBroadcast || r.acks >= r.clients) {
		t.end(r, nil)
	}
}

// fail ends a request, if it has not ended yet.
func (t *requestTable) fail(r *request, err error) {
	if r.position >= 0 {
		t.end(r, err)
	}
}

// failAll ends all requests.
func (t *requestTable) failAll(err error) {
	for len(t.order) > 0 {
		t.end(t.order[0], err)
	}
}

// due ends the requests that are late.
func (t *requestTable) due(now time.Time) {
	for len(t.order) > 0 && !t.order[0].expires().After(now) {
		r := t.order[0]
		t.end(r, r.lateness())
	}
}

// lateness says what the request waits for.
func (r *request) lateness() error {
	if !r.counted {
		return ErrUnavailable
	}
	switch r.kind {
	case socketio.RequestRemoteFetch:
		return timeoutError("timeout reached while waiting for fetchSockets response")
	case socketio.RequestAllRooms:
		return timeoutError("timeout reached while waiting for allRooms response")
	case socketio.RequestServerSideEmit:
		return timeoutError(fmt.Sprintf("timeout reached: only %d responses received out of %d", r.answers, r.nodes))
	default:
		return timeoutError(fmt.Sprintf("timeout reached: only %d acknowledgements received out of %d, from %d servers out of %d",
			r.acks, r.clients, r.answers, r.nodes))
	}
}

// next is the time to call due; false when nothing is under way.
func (t *requestTable) next() (time.Time, bool) {
	if len(t.order) == 0 {
		return time.Time{}, false
	}
	return t.order[0].expires(), true
}

// end takes the request out of the table.
func (t *requestTable) end(r *request, err error) {
	delete(t.byID, r.id)
	heap.Remove(&t.order, r.position)
	t.size -= r.size
	t.events = append(t.events, event{request: r, err: err})
}

// take returns what callers are to be told, in this order.
func (t *requestTable) take() []event {
	events := t.events
	t.events = nil
	return events
}

// requestOrder is a heap: the request that expires first is at 0.
type requestOrder []*request

func (o requestOrder) Len() int           { return len(o) }
func (o requestOrder) Less(i, j int) bool { return o[i].expires().Before(o[j].expires()) }

func (o requestOrder) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].position, o[j].position = i, j
}

// Push implements heap.Interface.
func (o *requestOrder) Push(x any) {
	r := x.(*request)
	r.position = len(*o)
	*o = append(*o, r)
}

// Pop implements heap.Interface.
func (o *requestOrder) Pop() any {
	last := len(*o) - 1
	r := (*o)[last]
	(*o)[last] = nil
	*o = (*o)[:last]
	r.position = -1
	return r
}

// timeoutError says that not every node answered in time.
type timeoutError string

func (e timeoutError) Error() string { return string(e) }

// Timeout is true, as of the timeouts of package net.
func (e timeoutError) Timeout() bool { return true }

// Is makes it a context.DeadlineExceeded.
func (e timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }
