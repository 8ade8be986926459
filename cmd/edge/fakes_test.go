package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/state"
)

// fakePresence records the calls and keeps the done functions for the test to call.
type fakePresence struct {
	mu      sync.Mutex
	calls   []string
	done    []func(error)
	online  map[string]bool
	members map[string][]string
	counts  map[string]int // if not the length of members
	seqs    []uint64       // of the snapshots to come; 7 when there are none
	err     error          // of reads
	gate    chan struct{}  // reads wait for it if not nil
	began   chan struct{}  // hears of each read that began, if not nil
	reads   int
}

func (p *fakePresence) record(call string, done func(error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, call)
	if done != nil {
		p.done = append(p.done, done)
	}
}

func (p *fakePresence) Connect(user, socket string, generation uint64, done func(error)) {
	p.record(fmt.Sprintf("connect %s %s %d", user, socket, generation), nil)
	done(nil)
}
func (p *fakePresence) Held(user string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, call := range p.calls {
		if strings.HasPrefix(call, "connect "+user+" ") {
			n++
		} else if strings.HasPrefix(call, "disconnect "+user+" ") {
			n--
		}
	}
	return n
}
func (p *fakePresence) Disconnect(user, socket string, mayReturn bool) {
	call := "disconnect " + user + " " + socket
	if mayReturn {
		call += " may return"
	}
	p.record(call, nil)
}
func (p *fakePresence) Join(user, socket, room string, done func(error)) {
	p.record("join "+user+" "+socket+" "+room, done)
}
func (p *fakePresence) Leave(user, socket, room string, done func(error)) {
	p.record("leave "+user+" "+socket+" "+room, done)
}

// settle calls the oldest done function that was not called.
func (p *fakePresence) settle(t *testing.T, err error) {
	t.Helper()
	p.mu.Lock()
	if len(p.done) == 0 {
		p.mu.Unlock()
		t.Fatal("nothing asked of presence is open")
	}
	done := p.done[0]
	p.done = p.done[1:]
	p.mu.Unlock()
	done(err)
}

func (p *fakePresence) recorded() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

func (p *fakePresence) wait(ctx context.Context) error {
	p.mu.Lock()
	p.reads++
	gate, err := p.gate, p.err
	p.mu.Unlock()
	if p.began != nil {
		p.began <- struct{}{}
	}
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (p *fakePresence) Online(ctx context.Context, users []string) ([]bool, error) {
	if err := p.wait(ctx); err != nil {
		return nil, err
	}
	out := make([]bool, len(users))
	for i, u := range users {
		out[i] = p.online[u]
	}
	return out, nil
}

func (p *fakePresence) Snapshot(ctx context.Context, room string) (state.Snapshot, error) {
	if err := p.wait(ctx); err != nil {
		return state.Snapshot{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	snap := state.Snapshot{Room: room, Users: p.members[room], Count: len(p.members[room]), Seq: 7, Epoch: "E"}
	if n, ok := p.counts[room]; ok {
		snap.Count = n
	}
	if len(p.seqs) > 0 {
		snap.Seq, p.seqs = p.seqs[0], p.seqs[1:]
	}
	return snap, nil
}

// fakeSocket is a socket whose subscriptions become live when the test says so.
type fakeSocket struct {
	id     string
	data   any
	mu     sync.Mutex
	rooms  []string
	live   []func(error)
	now    bool // subscriptions are live at once
	sent   []string
	ended  bool // with its connection
	stored int  // times that data was set
}

func (s *fakeSocket) Disconnect(closeConn bool) { s.ended = s.ended || closeConn }
func (s *fakeSocket) ID() string                { return s.id }
func (s *fakeSocket) Data() any                 { return s.data }
func (s *fakeSocket) Rooms() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{s.id}, s.rooms...)
}
func (s *fakeSocket) In(room string) bool { return slices.Contains(s.Rooms(), room) }
func (s *fakeSocket) Join(room string, done func(error)) {
	s.mu.Lock()
	if !slices.Contains(s.rooms, room) {
		s.rooms = append(s.rooms, room)
	}
	if !s.now {
		s.live = append(s.live, done)
	}
	s.mu.Unlock()
	if s.now {
		done(nil)
	}
}
func (s *fakeSocket) Leave(room string, done func(error)) {
	s.mu.Lock()
	s.rooms = slices.DeleteFunc(s.rooms, func(r string) bool { return r == room })
	s.mu.Unlock()
	if done != nil {
		done(nil)
	}
}
func (s *fakeSocket) SetData(v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data, s.stored = v, s.stored+1
}
func (s *fakeSocket) CloseConn(reason metrics.Close) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, "closed: "+reason.String())
}
func (s *fakeSocket) EmitPayload(p *engine.Payload) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, string(p.JSON))
	return nil
}

func (s *fakeSocket) emitted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sent)
}

// fakeEvent is one event with its answer.
type fakeEvent struct {
	args        []string
	attachments [][]byte
	silent      bool // the client gave no callback

	acks     chan string
	released chan struct{}
	held     bool
}

func newEvent(args ...string) *fakeEvent {
	return &fakeEvent{args: args, acks: make(chan string, 4), released: make(chan struct{})}
}

func (e *fakeEvent) Len() int                  { return len(e.args) }
func (e *fakeEvent) Raw(i int) json.RawMessage { return json.RawMessage(e.args[i]) }
func (e *fakeEvent) Attachments() [][]byte     { return e.attachments }
func (e *fakeEvent) WantsAck() bool            { return !e.silent }
func (e *fakeEvent) AckPayload(p *engine.Payload) error {
	if !json.Valid(p.JSON) {
		panic("ack is not JSON: " + string(p.JSON))
	}
	e.acks <- string(p.JSON)
	return nil
}
func (e *fakeEvent) Hold() func() {
	e.held = true
	return sync.OnceFunc(func() { close(e.released) })
}

// ack waits for the event's answer.
func (e *fakeEvent) ack(t *testing.T) string {
	t.Helper()
	select {
	case a := <-e.acks:
		return a
	case <-time.After(10 * time.Second):
		t.Fatal("no ack")
		return ""
	}
}

// open fails the test if the event was answered or its hold released.
func (e *fakeEvent) open(t *testing.T, when string) {
	t.Helper()
	select {
	case a := <-e.acks:
		t.Fatalf("%s: acknowledged with %s", when, a)
	case <-e.released:
		t.Fatalf("%s: later packets no longer wait", when)
	default:
	}
}

func (e *fakeEvent) waitReleased(t *testing.T) {
	t.Helper()
	select {
	case <-e.released:
	case <-time.After(10 * time.Second):
		t.Fatal("later packets wait for ever")
	}
}

// code is the code of an {ok:false} answer.
func code(t *testing.T, ack string) string {
	t.Helper()
	var a []struct {
		OK    *bool
		Code  string
		Error string
	}
	if err := json.Unmarshal([]byte(ack), &a); err != nil || len(a) != 1 || a[0].OK == nil || *a[0].OK || a[0].Error == "" || len(a[0].Error) > 200 {
		t.Fatalf("ack %s is not {ok:false, code, error}", ack)
	}
	return a[0].Code
}

// published is one message that the application handed to the bus.
type published struct {
	room string
	once string
	p    *engine.Payload
	done func(error)
}

// testApp is an application with fakes around it.
type testApp struct {
	*app
	presence   *fakePresence
	published  []published
	local      []published
	publishErr error
}

func newTestApp() *testApp {
	p := &fakePresence{online: map[string]bool{}, members: map[string][]string{}, counts: map[string]int{}}
	ta := &testApp{presence: p}
	ta.app = &app{
		publish: func(room, once string, payload *engine.Payload, done func(error)) error {
			if ta.publishErr != nil {
				return ta.publishErr
			}
			ta.published = append(ta.published, published{room, once, payload, done})
			return nil
		},
		local: func(room string, payload *engine.Payload) error {
			ta.local = append(ta.local, published{room, "", payload, nil})
			return nil
		},
		presence: p, reads: newReads(p, quiet), validID: state.ValidID,
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "refused"}), log: quiet,
		now: func() time.Time { return testNow }, limits: appLimits{rooms: defaultMaxRooms},
	}
	ta.expiries = newExpiries(time.Minute, 30*time.Second, prometheus.NewGauge(prometheus.GaugeOpts{Name: "expiring"}), ta.now)
	return ta
}

// socket makes a connected socket of user that is in rooms.
func (a *testApp) socket(user string, rooms ...string) *fakeSocket {
	s := &fakeSocket{id: testSocket, data: &identity{User: user}}
	a.connected(s)
	s.rooms = rooms
	return s
}

func (a *testApp) refusals() float64 { return testutil.ToFloat64(a.refused) }

var errRedis = errors.New("redis: READONLY You can't write against a read only replica")

// waitFor waits for what other goroutines bring about.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}
