package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

const (
	maxRequests    = 4096     // under way at a time
	maxAnswersSize = 64 << 20 // bytes of answers collected, and again of answers not yet looked at
)

// requester is the shell around requestTable: one goroutine (requestLoop) owns
// the table and makes all callbacks, so that acknowledgements and the end of a
// request come in order; whatever happens elsewhere reaches it as an input.
type requester struct {
	newID   func() string
	timeout time.Duration   // requestsTimeout
	maxSize int             // maxAnswersSize
	wake    chan struct{}   // capacity 1: there are inputs
	count   chan []*request // capacity 1, one batch at a time: for countLoop

	mu     sync.Mutex          // guards the rest; never held across I/O or a callback
	open   map[string]struct{} // ids of the requests that have not ended
	inputs []input
	size   int                 // of the inputs
	lost   map[string]struct{} // ids of requests that an answer was refused of
	ended  bool

	// Of requestLoop only.
	table      requestTable
	counting   bool      // countLoop has a batch
	countAfter time.Time // the last count failed: not before that
}

// input is something for requestLoop to do.
type input struct {
	apply  func()
	refuse func(error) // instead of apply at the end; nil: nothing

	// Of answers.
	id   string // of the request; "" when it is not known yet
	size int    // bytes it holds
}

func newRequester() requester {
	return requester{
		newID: newRequestID, timeout: requestsTimeout, maxSize: maxAnswersSize,
		wake:  make(chan struct{}, 1),
		count: make(chan []*request, 1),
		open:  make(map[string]struct{}),
		lost:  make(map[string]struct{}),
		table: newRequestTable(maxAnswersSize),
	}
}

// put hands an input to requestLoop; false when that has ended. An answer too
// much ends its request.
func (q *requester) put(in input) bool {
	q.mu.Lock()
	ended := q.ended
	switch {
	case ended:
	case in.size > 0 && q.size+in.size > q.maxSize:
		if _, open := q.open[in.id]; open {
			q.lost[in.id] = struct{}{}
		}
	default:
		q.inputs = append(q.inputs, in)
		q.size += in.size
	}
	q.mu.Unlock()
	notify(q.wake)
	return !ended
}

// later makes a callback, never from inside the call.
func (q *requester) later(f func()) {
	if !q.put(input{apply: f, refuse: func(error) { f() }}) {
		go f() // requestLoop is gone
	}
}

// admit takes a request or says why not.
func (q *requester) admit(r *request) error {
	q.mu.Lock()
	switch {
	case q.ended:
		q.mu.Unlock()
		return ErrClosed
	case len(q.open) >= maxRequests:
		q.mu.Unlock()
		return ErrTooManyRequests
	}
	q.open[r.id] = struct{}{}
	q.inputs = append(q.inputs, input{apply: func() { q.table.start(r) }, refuse: r.finish})
	q.mu.Unlock()
	notify(q.wake)
	return nil
}

// tell makes the callbacks that are due.
func (q *requester) tell() {
	for _, e := range q.table.take() {
		if e.ack {
			e.request.ack(e.packet)
			continue
		}
		q.mu.Lock()
		delete(q.open, e.request.id)
		q.mu.Unlock()
		e.request.finish(e.err)
	}
}

// receiveResponse takes one message of a response channel from the Pub/Sub
// reader. All nodes hear the answers to all; what is not for this one goes no
// further, and nothing is decoded here.
func (b *Bus) receiveResponse(payload []byte) {
	q := &b.requester
	id, plain := answerID(payload)
	q.mu.Lock()
	_, ours := q.open[string(id)]
	if !plain {
		ours = len(q.open) > 0
	}
	q.mu.Unlock()
	if ours {
		q.put(input{apply: func() { b.applyResponse(payload) }, id: string(id), size: len(payload)})
	}
}

func (b *Bus) applyResponse(payload []byte) {
	a, err := socketio.ParseResponse(payload)
	if err != nil {
		b.metrics.Drops[metrics.DropMalformed].Inc()
		return
	}
	b.requester.table.answer(&a, len(payload))
}

// answerID finds the id of the request an answer is for without decoding it;
// false when the answer is not written as the adapters write it.
func answerID(payload []byte) ([]byte, bool) {
	const (
		jsonType    = `{"type":0`
		jsonID      = `"requestId":"`
		msgpackHead = "\xa4type\x09\xa9requestId"
	)
	switch {
	case len(payload) == 0:
		return nil, false
	case payload[0] != '{':
		rest, ok := bytes.CutPrefix(payload[1:], []byte(msgpackHead))
		if !ok || len(rest) == 0 || rest[0]&0xe0 != 0xa0 || len(rest) <= int(rest[0]&0x1f) {
			return nil, false
		}
		return rest[1 : 1+rest[0]&0x1f], true
	}
	rest := payload[1:]
	if bytes.HasPrefix(payload, []byte(jsonType[:len(jsonType)-1])) && len(payload) > len(jsonType) && payload[len(jsonType)] == ',' {
		rest = payload[len(jsonType)+1:]
	}
	rest, ok := bytes.CutPrefix(rest, []byte(jsonID))
	if !ok {
		return nil, false
	}
	end := bytes.IndexByte(rest[:min(len(rest), 64)], '"')
	if end < 0 || bytes.IndexByte(rest[:end], '\\') >= 0 {
		return nil, false
	}
	return rest[:end], true
}

// requestLoop carries requests of this node until ctx ends.
func (b *Bus) requestLoop(ctx context.Context) {
	defer b.requester.end()
	q := &b.requester
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		b.requestRound()
		at, open := q.table.next()
		if retry := time.Now().Add(expiryTick); len(q.table.waiting) > 0 && retry.Before(at) {
			at = retry
		}
		if open {
			timer.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		case <-timer.C:
		}
	}
}

// requestRound applies all inputs and ends what is late.
func (b *Bus) requestRound() {
	q := &b.requester
	q.mu.Lock()
	inputs, size := q.inputs, q.size
	q.inputs = nil
	var lost map[string]struct{}
	if len(q.lost) > 0 {
		lost, q.lost = q.lost, make(map[string]struct{})
	}
	q.mu.Unlock()
	for i := range inputs {
		inputs[i].apply()
		inputs[i] = input{}
		q.tell()
	}
	q.mu.Lock()
	q.size -= size
	q.mu.Unlock()
	for id := range lost {
		if r := q.table.byID[id]; r != nil {
			q.table.fail(r, ErrAnswersTooLarge)
		}
	}
	now := time.Now()
	q.table.due(now)
	q.tell()
	if !q.counting && !now.Before(q.countAfter) {
		b.countWaiting()
	}
}

// countWaiting has the requests counted whose namespace can be: this node must
// be heard and hear, or it would miscount and miss the answers.
func (b *Bus) countWaiting() {
	q := &b.requester
	c, _ := b.link.get()
	batch := q.table.uncounted(func(ns string) bool { return c != nil && b.hears(ns) })
	var ask []*request
	for _, r := range batch {
		if r.alone {
			b.counted(r, 1)
		} else {
			ask = append(ask, r)
		}
	}
	if len(ask) > 0 {
		q.counting = true
		q.count <- ask
	}
}

// hears reports whether all subscriptions of a namespace are live.
func (b *Bus) hears(ns string) bool {
	b.subsMu.Lock()
	defer b.subsMu.Unlock()
	return b.subs.hears(ns)
}

// countLoop asks Redis how many nodes there are, until ctx ends.
func (b *Bus) countLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case batch := <-b.requester.count:
			nodes, err := b.countNodes(ctx, batch)
			b.requester.put(input{apply: func() { b.applyCount(batch, nodes, err) }})
		}
	}
}

// countNodes returns the number of nodes by request channel.
func (b *Bus) countNodes(ctx context.Context, batch []*request) (map[string]int64, error) {
	c, _ := b.link.get()
	if c == nil {
		return nil, ErrUnavailable
	}
	var channels []string
	known := make(map[string]struct{})
	for _, r := range batch {
		if _, again := known[r.ns]; !again {
			known[r.ns] = struct{}{}
			channels = append(channels, b.channels.Request(r.ns))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	nodes, err := c.cmd.Do(ctx, c.cmd.B().PubsubNumsub().Channel(channels...).Build()).AsIntMap()
	if err != nil {
		if lostConnection(err) {
			b.link.suspect()
			return nil, fmt.Errorf("%w: count nodes: %w", ErrUnavailable, err)
		}
		return nil, fmt.Errorf("state: count nodes: %w", err)
	}
	return nodes, nil
}

// applyCount carries out the requests that were counted.
func (b *Bus) applyCount(batch []*request, nodes map[string]int64, err error) {
	q := &b.requester
	q.counting = false
	if errors.Is(err, ErrUnavailable) {
		q.table.recount(batch)
		q.countAfter = time.Now().Add(expiryTick)
		return
	}
	for _, r := range batch {
		if err != nil {
			q.table.fail(r, err)
			continue
		}
		b.counted(r, int(nodes[b.channels.Request(r.ns)]))
	}
}

// counted sends the request to the other nodes, if there are any, and starts
// this node's own part, as Node.js does in this order.
func (b *Bus) counted(r *request, nodes int) {
	q := &b.requester
	begin, publish := q.table.count(r, nodes)
	if begin && publish {
		if err := b.publishRequest(r.ns, r.payload, func(err error) { b.requestPublished(r, err) }); err != nil {
			q.table.fail(r, err)
			begin = false
		}
	}
	q.tell()
	if begin && r.local != nil {
		r.local()
	}
}

// requestPublished ends a request that did not get through.
func (b *Bus) requestPublished(r *request, err error) {
	if err == nil {
		return
	}
	if lostConnection(err) && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	b.requester.put(input{apply: func() { b.requester.table.fail(r, err) }})
}

// publishRequest queues a message for the request channel.
func (b *Bus) publishRequest(ns string, payload []byte, done func(error)) error {
	return b.enqueue(message{channel: b.channels.Request(ns), payload: payload, called: time.Now(), done: done})
}

// end fails what is under way and refuses what is to come. requestLoop has
// returned, or is not going to run.
func (q *requester) end() {
	q.mu.Lock()
	if q.ended {
		q.mu.Unlock()
		return
	}
	q.ended = true
	inputs := q.inputs
	q.inputs = nil
	q.mu.Unlock()
	q.table.failAll(ErrClosed)
	q.tell()
	for i := range inputs {
		if inputs[i].refuse != nil {
			inputs[i].refuse(ErrClosed)
		}
	}
}
