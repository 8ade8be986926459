package test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/state"
)

// edge is a server of a fleet: an engine on a state, wired as cmd/edge does.
type edge struct {
	id       string
	listener net.Listener
	state    *state.State
	engine   *engine.Server
	notes    *inbox[note]
	end      func() error
	sockets  sync.Map // id → *engine.Socket, of both namespaces
}

// startEdge starts an edge that ends with the test.
func startEdge(t *testing.T, name, redisURL string, pattern, specific bool) *edge {
	t.Helper()
	m := metrics.New(prometheus.NewRegistry(), "test")
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	node, uid := "edge"+randomText(4), randomText(6)
	st, err := state.Open(state.Config{
		URL: redisURL, Node: node, UID: uid, Pattern: pattern, SpecificResponses: specific, Cache: true, Log: log,
	}, m)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := engine.New(engine.Config{Node: node, UID: uid, KeepHeaders: true, Logger: log}, st.Bus(), m)
	if err != nil {
		t.Fatal(err)
	}
	e := &edge{id: name, state: st, engine: srv, notes: newInbox[note]()}
	for _, nsp := range []string{"/", "/chat"} {
		e.serve(srv.Of(nsp))
	}
	if e.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	front := &http.Server{Handler: srv, ReadHeaderTimeout: patience}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = st.Run(ctx, srv, srv, nil) }()
	go func() { _ = front.Serve(e.listener) }()
	e.end = sync.OnceValue(func() error {
		late, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := srv.Shutdown(late)
		_ = front.Close()
		stop()
		<-ended
		return errors.Join(err, st.Close(late))
	})
	t.Cleanup(func() { e.close(t) })
	return e
}

// close ends the edge in order; again is no change.
func (e *edge) close(t *testing.T) {
	t.Helper()
	if err := e.end(); err != nil {
		t.Errorf("close the edge: %v", err)
	}
}

// serve gives a namespace the handlers that a peer has.
func (e *edge) serve(n *engine.Namespace) {
	n.Use(func(s *engine.Socket, next func(error)) {
		var auth struct{ Client string }
		_ = json.Unmarshal(s.Auth(), &auth)
		e.sockets.Store(s.ID(), s)
		s.SetData(map[string]any{"server": e.id, "client": auth.Client})
		next(nil)
	})
	n.OnServerSideEvent("note", func(args []json.RawMessage, _ func(any)) {
		e.notes.put(note{Namespace: n.Name(), Args: values(args)})
	})
	n.OnServerSideEvent("question", func(args []json.RawMessage, reply func(any)) {
		reply(map[string]any{"server": e.id, "nsp": n.Name(), "args": values(args)})
	})
	n.OnServerSideEvent("mute", func([]json.RawMessage, func(any)) {})
}

func (e *edge) name() string        { return e.id }
func (e *edge) url() string         { return "http://" + e.listener.Addr().String() }
func (e *edge) heard() *inbox[note] { return e.notes }

func (*edge) partial(acks, clients, answered, servers int) string {
	return fmt.Sprintf("%v: timeout reached: only %d acknowledgements received out of %d, from %d servers out of %d",
		engine.ErrAckTimeout, acks, clients, answered, servers)
}

// do does with the Go API what fixtures/fleet-peer.mjs does with the one of Node.js.
func (e *edge) do(o operation) reply {
	n := e.engine.Of(o.Namespace)
	b := e.selection(n, o)
	done := make(chan reply, 1)
	end := func(v any, err error) { done <- ended(v, err) }
	switch o.Op {
	case "emit":
		end(nil, b.Emit(o.Event, o.Args...))
	case "ask":
		err := b.EmitWithAck(time.Duration(o.Timeout)*time.Millisecond,
			func(answers []*engine.Ack, err error) { end(orEmpty(firstTexts(answers)), err) }, o.Event, o.Args...)
		if err != nil {
			end(nil, err)
		}
	case "fetch":
		b.FetchSockets(func(found []engine.RemoteSocket, err error) { end(described(found), err) })
	case "join", "leave":
		f := map[string]func(...string){"join": b.SocketsJoin, "leave": b.SocketsLeave}[o.Op]
		f(texts(o.Args)...)
		end(nil, nil)
	case "disconnect":
		b.DisconnectSockets(o.Close)
		end(nil, nil)
	case "remote":
		n.To(o.SID).FetchSockets(func(found []engine.RemoteSocket, err error) {
			if err == nil && len(found) != 1 {
				err = fmt.Errorf("found %d sockets", len(found))
			}
			if err == nil {
				err = remote(found[0], o)
			}
			end(nil, err)
		})
	case "rooms":
		n.AllRooms(func(rooms []string, err error) { end(rooms, err) })
	case "tell":
		end(nil, n.ServerSideEmit(nil, o.Event, o.Args...))
	case "question":
		err := n.ServerSideEmit(func(answers []json.RawMessage, err error) { end(orEmpty(answers), err) }, o.Event, o.Args...)
		if err != nil {
			end(nil, err)
		}
	case "enter":
		end(nil, e.enter(o))
	default:
		end(nil, fmt.Errorf("an edge cannot %s", o.Op))
	}
	select {
	case r := <-done:
		return r
	case <-time.After(patience):
		return reply{Error: fmt.Sprintf("not ended after %v", patience)}
	}
}

// enter makes a socket of the edge a member of rooms and waits until it hears them.
func (e *edge) enter(o operation) error {
	socket, ok := e.sockets.Load(o.SID)
	if !ok {
		return fmt.Errorf("the edge has no socket %s", o.SID)
	}
	joined := make(chan error, len(o.Args))
	for _, room := range texts(o.Args) {
		socket.(*engine.Socket).Join(room, func(err error) { joined <- err })
	}
	for range o.Args {
		select {
		case err := <-joined:
			if err != nil {
				return err
			}
		case <-time.After(patience):
			return fmt.Errorf("not joined %v after %v", o.Args, patience)
		}
	}
	return nil
}

// selection is what the operators of every operation have in common.
func (e *edge) selection(n *engine.Namespace, o operation) engine.Broadcast {
	b := n.To(texts(o.Rooms)...).Except(texts(o.Except)...)
	for _, flag := range o.Flags {
		switch flag {
		case "volatile":
			b = b.Volatile()
		case "local":
			b = b.Local()
		case "uncompressed":
			b = b.Compress(false)
		}
	}
	return b
}

// remote calls a method of a remote socket.
func remote(r engine.RemoteSocket, o operation) error {
	switch o.Method {
	case "emit":
		event, _ := o.Args[0].(string)
		return r.Emit(event, o.Args[1:]...)
	case "join":
		r.Join(texts(o.Args)...)
	case "leave":
		r.Leave(texts(o.Args)...)
	default:
		closeConn := len(o.Args) > 0 && o.Args[0] == true
		r.Disconnect(closeConn)
	}
	return nil
}

// ended is a reply with what a callback got.
func ended(v any, err error) reply {
	var r reply
	r.Result, _ = json.Marshal(v)
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// found is a socket as fetchSockets describes it.
type found struct {
	ID        string          `json:"id"`
	Rooms     []any           `json:"rooms"`
	Data      map[string]any  `json:"data"`
	Handshake json.RawMessage `json:"handshake"`
}

func described(sockets []engine.RemoteSocket) []found {
	out := make([]found, len(sockets))
	for i, s := range sockets {
		out[i] = found{ID: s.ID, Handshake: s.Handshake}
		for _, room := range s.Rooms {
			out[i].Rooms = append(out[i].Rooms, room)
		}
		_ = json.Unmarshal(s.Data, &out[i].Data)
	}
	return out
}

func values(raw []json.RawMessage) []any {
	out := make([]any, len(raw))
	for i := range raw {
		_ = json.Unmarshal(raw[i], &out[i])
	}
	return out
}

func orEmpty[T any](list []T) []T { return slices.Concat([]T{}, list) }

// randomText returns n hexadecimal digits.
func randomText(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return hex.EncodeToString(b)[:n]
}

// firstTexts are the first arguments of acknowledgements, null for one that has none or a binary one.
func firstTexts(answers []*engine.Ack) []json.RawMessage {
	out := make([]json.RawMessage, 0, len(answers))
	for _, a := range answers {
		if len(a.Args) == 0 || len(a.Attachments) > 0 {
			out = append(out, json.RawMessage("null"))
			continue
		}
		out = append(out, a.Args[0])
	}
	return out
}
