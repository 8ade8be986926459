package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/state"
)

// Bounds of what is published at once.
const (
	maxTargets  = 1_000 // rooms, users and sockets that one message is for, and again that it is not for
	maxBatch    = 1_000 // messages of a batch
	maxEventLen = 255   // of an event's name, in bytes
)

// outgoing is a message of the API on its way.
type outgoing struct {
	rooms, except   []string // none: everybody, nobody
	volatile, local bool
	once, digest    string // engine's Broadcast.OnceOf; "": none
	payload         *engine.Payload
}

// nodes is the fleet of a namespace.
type nodes struct{ ns *engine.Namespace }

// Publish implements fleet.
func (f nodes) Publish(m *outgoing, done func(error)) error {
	b := f.ns.To(m.rooms...).Except(m.except...)
	if m.volatile {
		b = b.Volatile()
	}
	if m.local {
		b = b.Local()
	}
	return b.OnceOf(m.once, m.digest).EmitPayload(m.payload, done)
}

// Fetch implements fleet.
func (f nodes) Fetch(to string, done func([]engine.RemoteSocket, error)) {
	f.ns.To(to).FetchSockets(done)
}

// Join implements fleet.
func (f nodes) Join(to string, rooms []string) { f.ns.To(to).SocketsJoin(rooms...) }

// Leave implements fleet.
func (f nodes) Leave(to string, rooms []string) { f.ns.To(to).SocketsLeave(rooms...) }

// Disconnect implements fleet.
func (f nodes) Disconnect(to string, closeConn bool) { f.ns.To(to).DisconnectSockets(closeConn) }

// selection is whom a message is for, or not for.
type selection struct {
	all                   bool
	rooms, users, sockets []string
}

func (s *selection) fields() object {
	return object{"rooms": &s.rooms, "users": &s.users, "sockets": &s.sockets}
}

// names are the rooms that the selection comes down to.
func (s *selection) names(path string) ([]string, *problem) {
	if n := len(s.rooms) + len(s.users) + len(s.sockets); n > maxTargets {
		return nil, invalidf("%s has %d names; there may be %d", path, n, maxTargets)
	}
	var names []string
	for i, room := range s.rooms {
		if p := idProblem("room", room); p != nil {
			return nil, invalidf("%s.rooms[%d]: %s", path, i, p.Message)
		}
		names = append(names, room)
	}
	for i, user := range s.users {
		if p := idProblem("user", user); p != nil {
			return nil, invalidf("%s.users[%d]: %s", path, i, p.Message)
		}
		names = append(names, userRoomPrefix+user)
	}
	for i, sid := range s.sockets {
		if p := socketProblem(sid); p != nil {
			return nil, invalidf("%s.sockets[%d]: %s", path, i, p.Message)
		}
		names = append(names, sid)
	}
	return names, nil
}

// publication is the body of publish, and each of a batch.
type publication struct {
	to, except      selection
	event           string
	args            []json.RawMessage
	volatile, local bool
}

func (m *publication) fields() object {
	to := m.to.fields()
	to["all"] = &m.to.all
	return object{
		"to": to, "except": m.except.fields(), "event": &m.event, "args": &m.args, "volatile": &m.volatile, "local": &m.local,
	}
}

// outgoing checks the message; path is where it is in the body, with a dot at the end.
func (m *publication) outgoing(path string) (*outgoing, *problem) {
	rooms, p := m.to.names(path + "to")
	if p != nil {
		return nil, p
	}
	except, p := m.except.names(path + "except")
	switch {
	case p != nil:
		return nil, p
	case m.to.all && len(rooms) > 0:
		return nil, invalidf("%sto.all is for everybody: there can be no rooms, users and sockets beside it", path)
	case !m.to.all && len(rooms) == 0:
		return nil, invalidf("%sto names no room, user or socket, and all is not true", path)
	case m.event == "" || len(m.event) > maxEventLen:
		return nil, invalidf("%sevent has %d bytes; it must have 1 to %d", path, len(m.event), maxEventLen)
	case socketio.ReservedEvent(m.event):
		return nil, invalidf("%sevent: %q is reserved by Socket.IO", path, m.event)
	}
	return &outgoing{rooms: rooms, except: except, volatile: m.volatile, local: m.local, payload: &engine.Payload{JSON: m.payload()}}, nil
}

// payload is the event as clients get it: the arguments as the bytes they came in.
func (m *publication) payload() []byte {
	size := len(m.event) + 8
	for _, arg := range m.args {
		size += len(arg) + 1
	}
	b := socketio.AppendString(append(make([]byte, 0, size), '['), m.event)
	for _, arg := range m.args {
		b = append(append(b, ','), arg...)
	}
	return append(b, ']')
}

// decodePublication reads the body of publish.
func decodePublication(body []byte) (*outgoing, *problem) {
	var m publication
	if p := decodeObject(body, m.fields()); p != nil {
		return nil, p
	}
	return m.outgoing("")
}

// decodeBatch reads the body of publish/batch.
func decodeBatch(body []byte) ([]*outgoing, *problem) {
	var raw []json.RawMessage
	if p := decodeObject(body, object{"messages": &raw}); p != nil {
		return nil, p
	}
	if len(raw) == 0 || len(raw) > maxBatch {
		return nil, invalidf("there are %d messages; there must be 1 to %d", len(raw), maxBatch)
	}
	batch := make([]*outgoing, len(raw))
	for i := range raw {
		var m publication
		path := fmt.Sprintf("messages[%d].", i)
		p := m.fields().decode(path, raw[i])
		if p == nil {
			batch[i], p = m.outgoing(path)
		}
		if p != nil {
			return nil, p
		}
	}
	return batch, nil
}

// identify has each message published once under the request's Idempotency-Key, if
// it has one, and only as a part of a request with this body.
func identify(header http.Header, path string, body []byte, messages ...*outgoing) *problem {
	key, p := idempotencyKey(header.Values("Idempotency-Key"))
	if p != nil || key == "" {
		return p
	}
	sum := sha256.New()
	sum.Write([]byte(path + "\n"))
	sum.Write(body)
	digest := base64.RawURLEncoding.EncodeToString(sum.Sum(nil)[:18])
	for i, m := range messages {
		if m.local {
			return invalidf("a local message cannot have an Idempotency-Key: no other node hears of it")
		}
		// No user has braces in its id: these are not the names of users' messages.
		m.once, m.digest = fmt.Sprintf("{api}#%s#%d", key, i), digest
	}
	return nil
}

// accepted says that Redis has the message.
type accepted struct {
	OK bool `json:"ok"`
}

// publish answers POST publish, when Redis has accepted the message.
func (a *api) publish(c *apiCall) (any, *problem) {
	done := make(chan error, 1)
	p := a.work(c.ctx, func() *problem {
		m, p := decodePublication(c.body)
		if p == nil {
			p = identify(c.r.Header, c.r.URL.Path, c.body, m)
		}
		if p == nil {
			p = a.send(m, done)
		}
		return p
	})
	if p == nil {
		p = a.published(c.ctx, done)
	}
	if p != nil {
		return nil, p
	}
	return accepted{true}, nil
}

// send hands a message to the bus. What is wrong with it, and is not Redis's or the
// queue's affair, is the asker's.
func (a *api) send(m *outgoing, done chan error) *problem {
	err := a.fleet.Publish(m, func(err error) { done <- err })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, state.ErrQueueFull), errors.Is(err, state.ErrClosed), errors.Is(err, state.ErrUnavailable), errors.Is(err, engine.ErrTooLarge):
		return publishProblem(err)
	}
	a.log.Debug("a message of the API cannot be encoded", "error", err)
	return invalidf("args cannot be encoded: they are nested too deeply, or look like attachments")
}

// published waits for what Redis says about a message.
func (a *api) published(ctx context.Context, done <-chan error) *problem {
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		return nil
	}
	a.log.Debug("a message of the API was not published", "error", err)
	return publishProblem(err)
}

// batchResult is what came of one message of a batch.
type batchResult struct {
	OK    bool     `json:"ok"`
	Error *problem `json:"error,omitempty"`
}

// batchResults is the answer to a batch.
type batchResults struct {
	OK      bool          `json:"ok"` // of all
	Results []batchResult `json:"results"`
}

// publishBatch answers POST publish/batch. The messages are published in order, each
// on its own. With a key the first one goes ahead: what has it has the key, so that
// nothing is published of two bodies with one key but what is of one of them.
func (a *api) publishBatch(c *apiCall) (any, *problem) {
	var batch []*outgoing
	p := a.work(c.ctx, func() (p *problem) {
		if batch, p = decodeBatch(c.body); p == nil {
			p = identify(c.r.Header, c.r.URL.Path, c.body, batch...)
		}
		return p
	})
	if p != nil {
		return nil, p
	}
	answer := batchResults{OK: true, Results: make([]batchResult, len(batch))}
	rest := 0
	if batch[0].once != "" {
		rest = 1
		a.publishAll(c.ctx, batch[:rest], answer.Results)
		if p := answer.Results[0].Error; p != nil {
			return nil, p
		}
	}
	a.publishAll(c.ctx, batch[rest:], answer.Results[rest:])
	for i := range answer.Results {
		r := &answer.Results[i]
		r.OK = r.Error == nil
		answer.OK = answer.OK && r.OK
	}
	if !answer.OK {
		c.status = http.StatusMultiStatus
	}
	return answer, nil
}

// publishAll publishes messages in order and waits for all of them.
func (a *api) publishAll(ctx context.Context, batch []*outgoing, results []batchResult) {
	done := make([]chan error, len(batch))
	for i := range batch {
		done[i] = make(chan error, 1)
		results[i].Error = a.work(ctx, func() *problem { return a.send(batch[i], done[i]) })
	}
	for i := range batch {
		if results[i].Error == nil {
			results[i].Error = a.published(ctx, done[i])
		}
	}
}
