package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stellara/edge/socketio"
)

// Ack is a client's acknowledgement. It may be kept.
type Ack struct {
	Args        []json.RawMessage // binary values are placeholders
	Attachments [][]byte          // what placeholders refer to, by number
}

// Bind decodes argument i into v as Event.Bind does.
func (a *Ack) Bind(i int, v any) error {
	if i < 0 || i >= len(a.Args) {
		return fmt.Errorf("engine: acknowledgement has %d arguments, no number %d", len(a.Args), i)
	}
	if err := bind(a.Args[i], a.Attachments, v); err != nil {
		return fmt.Errorf("engine: argument %d of the acknowledgement: %w", i, err)
	}
	return nil
}

// ackTable holds the acknowledgements a namespace waits for. Ids are counted per
// namespace, so that one encoded broadcast serves every client.
type ackTable struct {
	mu      sync.Mutex // taken alone
	next    uint64
	pending map[uint64]*pendingAck
}

// pendingAck waits for one socket, or for many.
type pendingAck struct {
	timer *time.Timer

	// For one socket.
	socket *Socket
	one    func(*Ack, error)

	// For a broadcast; waiting is guarded by ackTable.mu.
	waiting map[*Socket]struct{}
	each    func(*Ack)
}

func newAckTable() *ackTable { return &ackTable{pending: make(map[uint64]*pendingAck)} }

// expect registers an acknowledgement of one socket. f runs in order with the
// socket's handlers.
func (t *ackTable) expect(timeout time.Duration, s *Socket, f func(*Ack, error)) uint64 {
	p := &pendingAck{socket: s, one: f}
	return t.add(timeout, p, func() {
		s.post(task{run: func() { f(&Ack{}, ErrAckTimeout) }})
	})
}

// expectEach registers acknowledgements of many sockets; each is called once per
// client that answers in time, from any goroutine.
func (t *ackTable) expectEach(timeout time.Duration, sockets []*Socket, each func(*Ack)) uint64 {
	p := &pendingAck{waiting: make(map[*Socket]struct{}, len(sockets)), each: each}
	for _, s := range sockets {
		p.waiting[s] = struct{}{}
	}
	return t.add(timeout, p, nil)
}

func (t *ackTable) add(timeout time.Duration, p *pendingAck, expired func()) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := t.next
	t.next++
	t.pending[id] = p
	p.timer = time.AfterFunc(timeout, func() {
		if t.forget(id) && expired != nil {
			expired()
		}
	})
	return id
}

// waitsFor reports whether an acknowledgement of the socket is awaited.
func (t *ackTable) waitsFor(s *Socket) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.pending {
		if _, waits := p.waiting[s]; waits || p.socket == s {
			return true
		}
	}
	return false
}

// forget ends the wait and reports whether it was still on.
func (t *ackTable) forget(id uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pending[id]
	if p == nil {
		return false
	}
	delete(t.pending, id)
	p.timer.Stop()
	return true
}

// answer hands a client's acknowledgement to who waits for it. Unknown and
// repeated ids, and ids of other sockets, are ignored.
func (t *ackTable) answer(s *Socket, id uint64, a *Ack) {
	t.mu.Lock()
	p := t.pending[id]
	if p == nil {
		t.mu.Unlock()
		return
	}
	if p.one != nil {
		mine := p.socket == s
		if mine {
			delete(t.pending, id)
			p.timer.Stop()
		}
		t.mu.Unlock()
		if mine {
			p.one(a, nil)
		}
		return
	}
	_, mine := p.waiting[s]
	delete(p.waiting, s)
	if len(p.waiting) == 0 {
		delete(t.pending, id)
		p.timer.Stop()
	}
	t.mu.Unlock()
	if mine {
		p.each(a)
	}
}

// answers collects the acknowledgements of a broadcast.
type answers struct {
	mu   sync.Mutex // taken alone
	list []*Ack
}

// add takes the first argument of one answer as MessagePack, which is all that
// travels between nodes; nil if there was none.
func (a *answers) add(packet []byte) {
	ack := &Ack{}
	if packet != nil {
		value, attachments, _, err := socketio.AppendJSONFromMsgpack(nil, slices.Clone(packet), nil)
		if err == nil && len(attachments) <= maxAttachments {
			ack.Args, ack.Attachments = []json.RawMessage{value}, attachments
		}
	}
	a.mu.Lock()
	a.list = append(a.list, ack)
	a.mu.Unlock()
}

func (a *answers) take() []*Ack {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.list
}
