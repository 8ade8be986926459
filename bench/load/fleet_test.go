//go:build linux

package load

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/internal/port"
)

// patience is how long a test waits for something that normally takes milliseconds.
const patience = 20 * time.Second

// startFleet runs the loader processes of a plan inside the test.
func startFleet(t *testing.T, plan Plan, processes int) *Fleet {
	t.Helper()
	var pipes []io.ReadWriter
	for range processes {
		ours, theirs := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- Serve(theirs, theirs) }()
		t.Cleanup(func() {
			ours.Close()
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
		pipes = append(pipes, ours)
	}
	f, err := NewFleet(plan, pipes)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func testPlan(targets ...string) Plan {
	return Plan{Targets: targets, Conns: 24, Rooms: 4, Senders: 2, Payload: 128, Browser: true, Dialing: 5}
}

// up connects and joins everything.
func up(t *testing.T, f *Fleet, plan Plan) *Connected {
	t.Helper()
	c, err := f.Connect(patience)
	if err != nil || c.Failed != 0 {
		t.Fatalf("connecting: %v, %+v", err, c)
	}
	j, err := f.Join(patience)
	if err != nil || j.Count != plan.Conns {
		t.Fatalf("joining: %v, %+v", err, j)
	}
	if j.Events != uint64(plan.Conns) {
		t.Errorf("%d presence updates, want %d", j.Events, plan.Conns)
	}
	return c
}

// shortStep is 80 messages in 0.4 s, a quarter of them for warm-up.
func shortStep(t *testing.T) Step {
	t.Helper()
	clock, err := NewClock()
	if err != nil {
		t.Fatal(err)
	}
	return Step{Start: clock.Now() + int64(200*time.Millisecond), Rate: 200, Warmup: 100 * time.Millisecond, Duration: 300 * time.Millisecond}
}

func TestFleetSeesAGoodServer(t *testing.T) {
	t.Parallel()
	a := newFakeServer(t)
	plan := testPlan(a.addr())
	f := startFleet(t, plan, 2)
	c := up(t, f, plan)
	for i, sid := range c.SIDs {
		if want := fmt.Sprintf("socket-of-u%d", i); sid != want {
			t.Errorf("connection %d has socket id %q, want %q", i, sid, want)
		}
	}
	if err := f.WaitPings(1, patience); err != nil {
		t.Error(err)
	}
	for step := range 2 {
		s, err := f.Step(shortStep(t), patience)
		if err != nil {
			t.Fatal(err)
		}
		const messages, members = 80, 6
		if s.Sent != messages || s.Acked != messages || s.Received != messages*members {
			t.Errorf("step %d: sent %d, acked %d, received %d", step, s.Sent, s.Acked, s.Received)
		}
		if s.Lost != 0 || s.Checks != (Checks{}) || s.Refused != 0 || Disagreeing(s.Orders) != 0 || len(s.Failures) != 0 {
			t.Errorf("step %d: lost %d, %+v, orders %v, failures %v", step, s.Lost, s.Checks, s.Orders, s.Failures)
		}
		if s.ReadLag.Count() == 0 {
			t.Errorf("step %d: nothing is known of how late the client was in reading", step)
		}
		if got := s.Latency.Count(); got != messages*members*3/4 {
			t.Errorf("step %d: %d latencies, want those after warm-up", step, got)
		}
	}
	closed, err := f.Close(patience)
	if err != nil || closed.Left != 0 {
		t.Errorf("closing: %v, %+v", err, closed)
	}
	if gone, err := f.Dropped(); err != nil || len(gone) != plan.Conns {
		t.Errorf("%d connections gone, want all; %v", len(gone), err)
	}
}

func TestFleetSeesABadServer(t *testing.T) {
	t.Parallel()
	s := newFakeServer(t)
	held := map[string][]byte{}
	// Messages of several senders that come in one moment, as after a pause, come in any order.
	sender := func(frame []byte) string {
		_, rest, _ := strings.Cut(string(frame), `"from":"`)
		name, _, _ := strings.Cut(rest, `"`)
		return name
	}
	s.spoil = func(member string, n int, frame []byte) [][]byte {
		switch {
		case member == "u0" && n == 3: // lost, which its sender's later messages show
			return nil
		case member == "u1" && n == 2: // duplicated
			return [][]byte{frame, frame}
		case member == "u2" && n == 4: // held back behind the next one of that sender
			held[member] = frame
			return nil
		case member == "u2" && n > 4 && held[member] != nil && sender(frame) == sender(held[member]):
			late := held[member]
			held[member] = nil
			return [][]byte{frame, late}
		case member == "u3" && n == 5: // in another order than its room: behind the next one of another sender
			held[member] = frame
			return nil
		case member == "u3" && n > 5 && held[member] != nil:
			late := held[member]
			if sender(frame) == sender(late) {
				held[member] = frame
				return [][]byte{late}
			}
			held[member] = nil
			return [][]byte{frame, late}
		}
		return [][]byte{frame}
	}
	plan := testPlan(s.addr())
	f := startFleet(t, plan, 1)
	up(t, f, plan)
	got, err := f.Step(shortStep(t), 1200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if got.Lost != 1 || got.Checks != (Checks{Duplicated: 1, Reordered: 1}) {
		t.Errorf("lost %d, %+v; want 1 lost, 1 duplicated, 1 out of order", got.Lost, got.Checks)
	}
	// u0 does not count, having lost one; u1 to u3 each saw an order of their own.
	if n := Disagreeing(got.Orders); n != 3 {
		t.Errorf("%d members disagree, want 3: %v", n, got.Orders)
	}
}

func TestFleetCountsRefusals(t *testing.T) {
	t.Parallel()
	s := newFakeServer(t)
	s.refuse = true
	plan := testPlan(s.addr())
	f := startFleet(t, plan, 1)
	up(t, f, plan)
	got, err := f.Step(shortStep(t), 400*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if got.Refused != 80 || got.Failures[`message refused: [{"ok":false,"code":"busy"}]`] != 80 {
		t.Errorf("refused %d, failures %v", got.Refused, got.Failures)
	}
}

func TestFleetCountsDroppedConnections(t *testing.T) {
	t.Parallel()
	s := newFakeServer(t)
	s.spoil = func(member string, n int, frame []byte) [][]byte {
		if member == "u5" && n == 2 {
			return [][]byte{frame, {0x88, 0x00}} // a close frame
		}
		return [][]byte{frame}
	}
	plan := testPlan(s.addr())
	f := startFleet(t, plan, 1)
	up(t, f, plan)
	got, err := f.Step(shortStep(t), patience)
	if err != nil {
		t.Fatal(err)
	}
	if got.Dropped != 1 || got.Lost == 0 {
		t.Errorf("dropped %d, lost %d; want 1 and what it missed", got.Dropped, got.Lost)
	}
	gone, err := f.Dropped()
	if err != nil || len(gone) != 1 || gone[0] != 5 {
		t.Errorf("dropped %v, %v; want [5]", gone, err)
	}
}

func TestConnectReportsRefusedConnections(t *testing.T) {
	free, err := port.Free()
	if err != nil {
		t.Fatal(err)
	}
	f := startFleet(t, testPlan(fmt.Sprintf("127.0.0.1:%d", free)), 1)
	c, err := f.Connect(patience)
	if err != nil {
		t.Fatal(err)
	}
	if c.Failed != 24 {
		t.Errorf("%d failed, want 24", c.Failed)
	}
	for reason := range c.Failures {
		if !strings.Contains(reason, "refused") {
			t.Errorf("reason %q does not say that the connection was refused", reason)
		}
	}
}

func TestServeReportsABadPlan(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	done := make(chan error, 1)
	go func() { done <- Serve(theirs, theirs) }()
	go fmt.Fprintln(ours, `{"Conns":1}`)
	answer := make([]byte, 200)
	n, err := ours.Read(answer)
	if err != nil || !strings.Contains(string(answer[:n]), "no target") {
		t.Errorf("answer %q, %v", answer[:n], err)
	}
	if err := <-done; err == nil {
		t.Error("Serve returned nil")
	}
}

func TestFleetJoinsSeveralRooms(t *testing.T) {
	t.Parallel()
	s := newFakeServer(t)
	plan := testPlan(s.addr())
	plan.Each, plan.Senders = 3, 0
	f := startFleet(t, plan, 2)
	if c, err := f.Connect(patience); err != nil || c.Failed != 0 {
		t.Fatalf("connecting: %v, %+v", err, c)
	}
	j, err := f.Join(patience)
	if err != nil || j.Count != plan.Conns || j.Events != uint64(3*plan.Conns) || len(j.Failures) != 0 {
		t.Fatalf("joining: %v, %+v", err, j)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for room := range plan.Rooms {
		if n := len(s.rooms[fmt.Sprintf("%q", plan.RoomName(room))]); n != plan.Conns*3/plan.Rooms {
			t.Errorf("room %d has %d members, want %d", room, n, plan.Conns*3/plan.Rooms)
		}
	}
}

func TestFleetStopsAStepEarly(t *testing.T) {
	t.Parallel()
	s := newFakeServer(t)
	heard := make(chan struct{}, 1)
	s.spoil = func(_ string, n int, frame []byte) [][]byte {
		if n == 3 { // the step is well under way
			select {
			case heard <- struct{}{}:
			default:
			}
		}
		return [][]byte{frame}
	}
	plan := testPlan(s.addr())
	f := startFleet(t, plan, 2)
	up(t, f, plan)
	if err := f.Stop(); err != nil { // there is nothing to stop
		t.Fatal(err)
	}
	step := shortStep(t)
	step.Duration = time.Hour
	stopped := make(chan error, 1)
	go func() {
		<-heard
		stopped <- f.Stop()
	}()
	got, err := f.Step(step, patience)
	if err := errors.Join(err, <-stopped); err != nil {
		t.Fatal(err)
	}
	if got.Sent == 0 || got.Acked != got.Sent || got.Lost != 0 || got.Received != got.Sent*6 {
		t.Errorf("sent %d, acked %d, received %d, lost %d", got.Sent, got.Acked, got.Received, got.Lost)
	}
	// What was stopped does not stop what comes after it.
	if got, err = f.Step(shortStep(t), patience); err != nil || got.Sent != 80 {
		t.Errorf("the next step sent %d of 80, %v", got.Sent, err)
	}
}

func TestReadLagGrowsUntilAPassSawEverything(t *testing.T) {
	l := &Loader{run: &run{from: 100, to: 1000, settled: &Settled{}}}
	lag := &l.run.settled.ReadLag
	pass := func(now, sawAll int64, events int) {
		l.now, l.sawAll = now, sawAll
		l.countReadLag(events)
	}
	pass(90, 80, 5)    // warm-up
	pass(1000, 990, 5) // over
	pass(500, 490, 0)  // nothing came
	if lag.Count() != 0 {
		t.Errorf("%d lags of passes that do not count", lag.Count())
	}
	pass(150, 50, 5) // what came in the measured time waited since its beginning at most
	if lag.Count() != 1 || lag.Max() != 50 {
		t.Errorf("%d lags up to %d ns, want one of 50", lag.Count(), lag.Max())
	}
	pass(700, 200, 5) // several passes were full since 200
	if lag.Max() != 500 {
		t.Errorf("lag %d ns, want 500", lag.Max())
	}
}
