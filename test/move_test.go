package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/metrics"
)

// TestMove is what becomes of a session that begins with polling on one node and
// upgrades on another: its conn moves there, and its client notices nothing.
func TestMove(t *testing.T) {
	open := inRedis(needRedis(t))
	for name, s := range map[string]struct {
		scenario
		run func(t *testing.T, first, second *recoveryNode)
	}{
		"everything moves":                   {run: everythingMoves},
		"in two namespaces":                  {run: movesInTwoNamespaces},
		"before it has joined a namespace":   {run: movesWithoutSockets},
		"and is recovered on a third node":   {run: recoveredAfterTheMove},
		"back to where its id was made":      {run: movesHome},
		"an answer is owed to the client":    {run: waitsForTheServersAnswer},
		"an answer of the client is awaited": {run: waitsForTheClientsAnswer},
		"rooms change meanwhile":             {run: roomsChangeMeanwhile},
		"kicked meanwhile":                   {run: kickedMeanwhile},
		"the trunk breaks meanwhile":         {run: trunkBreaksMeanwhile},
		"amid journalled messages":           {run: amidMessages},
		"amid messages without a journal": {
			scenario: scenario{config: engine.Config{Recovery: &engine.Recovery{Journal: func(string, []string) bool { return false }}}},
			run:      amidMessages,
		},
	} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			key := randomText(6)
			s.peers = newPeering()
			first, second := startRecovery(t, s.scenario, open, key), startRecovery(t, s.scenario, open, key)
			s.run(t, first, second)
		})
	}
}

// yes is a probe for until.
func yes(ok func() bool) func() error {
	return func() error {
		if !ok() {
			return errors.New("not yet")
		}
		return nil
	}
}

// moved waits until the node has taken over so many conns.
func (n *recoveryNode) moved(t *testing.T, conns float64) {
	t.Helper()
	until(t, fmt.Sprintf("%v conns to have moved", conns), yes(func() bool {
		return testutil.ToFloat64(n.m.Moves[metrics.MoveDone]) >= conns
	}))
}

func everythingMoves(t *testing.T, first, second *recoveryNode) {
	g := newGuest("/")
	l := first.poll(t)
	g.connect(t, l, nil)
	sid := g.SID
	g.call(t, "join", "r1")
	g.call(t, "data", "mine")
	publish(t, second.Of("/").To("r1"), 1)
	second.upgrade(t, l)
	second.moved(t, 1)
	if reason := first.gone(t); reason != engine.ReasonForcedServerClose {
		t.Errorf("on its first node the socket ended with %q", reason)
	}
	publish(t, first.Of("/").To("r1"), 2)
	publish(t, first.Of("/").To(sid), 3)
	publish(t, second.Of("/").To(sid), 4)
	g.expect(t, "1", "2", "3", "4")
	if got := g.call(t, "whoami"); got != fmt.Sprintf(`[%q,true,[%q,"r1"]]`, sid, sid) {
		t.Errorf("whoami: %s", got)
	}
	if got := g.call(t, "getdata"); got != `["mine"]` {
		t.Errorf("data: %s", got)
	}
	until(t, "the first node to be done with it", func() error { // it is told that all has moved
		if first.Conns() != 0 || second.Conns() != 1 || first.Of("/").Count() != 0 || second.Of("/").Count() != 1 {
			return fmt.Errorf("conns: %d and %d; sockets: %d and %d", first.Conns(), second.Conns(), first.Of("/").Count(), second.Of("/").Count())
		}
		return nil
	})
	if n := testutil.ToFloat64(first.m.Closes[metrics.CloseMoved]); n != 1 {
		t.Errorf("%v conns closed as moved", n)
	}
	if n := testutil.ToFloat64(second.m.RelayedWebSockets); n != 0 {
		t.Errorf("%v WebSockets are relayed", n)
	}
	g.away(t, second)
	publish(t, first.Of("/").To("r1"), 5)
	g.back(t, first.dial(t), "5")
}

func movesInTwoNamespaces(t *testing.T, first, second *recoveryNode) {
	g, h := newGuest("/"), newGuest("/chat")
	l := first.poll(t)
	g.connect(t, l, nil)
	h.connect(t, l, nil)
	h.call(t, "join", "r1")
	second.upgrade(t, l)
	second.moved(t, 1)
	publish(t, first.everybody(), 1)
	publish(t, first.Of("/chat").To("r1"), 2)
	g.expect(t, "1")
	h.expect(t, "2")
	for _, s := range []*guest{g, h} {
		if got := s.call(t, "whoami"); !strings.HasPrefix(got, fmt.Sprintf(`[%q,true,`, s.SID)) {
			t.Errorf("whoami in %s: %s", s.nsp, got)
		}
	}
}

func movesWithoutSockets(t *testing.T, first, second *recoveryNode) {
	l := first.poll(t)
	second.upgrade(t, l)
	second.moved(t, 1)
	g := newGuest("/")
	g.connect(t, l, nil)
	publish(t, first.everybody(), 1)
	g.expect(t, "1")
	until(t, "the first node to be done with it", func() error { // it is told that all has moved
		if n := first.Conns() + first.Of("/").Count(); n != 0 {
			return fmt.Errorf("%d conns and sockets are there", n)
		}
		return nil
	})
}

func recoveredAfterTheMove(t *testing.T, first, second *recoveryNode) {
	g := newGuest("/")
	l := first.poll(t)
	g.connect(t, l, nil)
	g.call(t, "join", "r1")
	publish(t, first.Of("/").To("r1"), 1)
	second.upgrade(t, l)
	second.moved(t, 1)
	publish(t, first.Of("/").To("r1"), 2) // nobody reads either of them
	old := *g
	old.line.guests[old.nsp] = &old
	g.back(t, first.dial(t), "1", "2")
	publish(t, second.Of("/").To("r1"), 3)
	g.expect(t, "3")
	second.gone(t)
}

// movesHome: the socket's id was made by the node that it moves to.
func movesHome(t *testing.T, first, second *recoveryNode) {
	g := newGuest("/")
	g.connect(t, second.dial(t), nil)
	g.call(t, "join", "r1")
	g.away(t, second)
	l := first.poll(t)
	g.back(t, l)
	second.upgrade(t, l)
	second.moved(t, 1)
	publish(t, first.Of("/").To("r1"), 1)
	publish(t, first.Of("/").To(g.SID), 2)
	g.expect(t, "1", "2")
}

func waitsForTheServersAnswer(t *testing.T, first, second *recoveryNode) {
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	first.Of("/").On("slow", func(_ *engine.Socket, e *engine.Event) {
		asked <- struct{}{}
		go func() {
			<-answer
			_ = e.Ack("done")
		}()
	})
	g := newGuest("/")
	l := first.poll(t)
	g.connect(t, l, nil)
	if err := l.send(`427["slow"]`); err != nil {
		t.Fatal(err)
	}
	<-asked
	second.upgrade(t, l)
	publish(t, first.everybody(), 1)
	g.expect(t, "1") // relayed
	if got := g.call(t, "whoami"); got != fmt.Sprintf(`[%q,false,[%q]]`, g.SID, g.SID) {
		t.Errorf("whoami before the move: %s", got)
	}
	if n := testutil.ToFloat64(second.m.RelayedWebSockets); n != 1 || first.Conns() != 1 {
		t.Errorf("%v WebSockets are relayed, of %d conns", n, first.Conns())
	}
	g.answer = ""
	close(answer)
	if err := g.readUntil(func() bool { return g.answer != "" }); err != nil || g.answer != `["done"]` {
		t.Fatalf("the answer: %s, %v", g.answer, err)
	}
	second.moved(t, 1)
	if got := g.call(t, "whoami"); got != fmt.Sprintf(`[%q,true,[%q]]`, g.SID, g.SID) {
		t.Errorf("whoami after the move: %s", got)
	}
}

func waitsForTheClientsAnswer(t *testing.T, first, second *recoveryNode) {
	got := make(chan error, 1)
	first.Of("/").On("ask", func(s *engine.Socket, e *engine.Event) {
		_ = s.EmitWithAck(patience, func(_ *engine.Ack, err error) { got <- err }, "question")
		_ = e.Ack()
	})
	g := newGuest("/")
	l := first.poll(t)
	g.connect(t, l, nil)
	g.call(t, "ask")
	if err := g.readUntil(func() bool { return g.asked }); err != nil {
		t.Fatal(err)
	}
	second.upgrade(t, l)
	publish(t, first.everybody(), 1)
	g.expect(t, "1")
	if err := l.send(`430[]`); err != nil {
		t.Fatal(err)
	}
	if err := await(t, "the client's answer", got); err != nil {
		t.Fatal(err)
	}
	second.moved(t, 1)
}

// roomsChangeMeanwhile: other nodes move sockets into rooms and out of them at any
// time, also while a conn moves.
func roomsChangeMeanwhile(t *testing.T, first, second *recoveryNode) {
	for i := range 20 {
		g := newGuest("/")
		l := first.poll(t)
		g.connect(t, l, nil)
		g.call(t, "join", "old")
		stop, stopped := make(chan struct{}), make(chan int)
		go func() {
			n := 0
			for ; ; n++ {
				select {
				case <-stop:
					stopped <- n
					return
				default:
				}
				second.Of("/").To(g.SID).SocketsJoin("r" + strconv.Itoa(n))
				time.Sleep(time.Millisecond) // a pace, not a wait
			}
		}()
		second.upgrade(t, l)
		second.moved(t, float64(i+1))
		close(stop)
		joined := <-stopped
		first.Of("/").To(g.SID).SocketsLeave("old")
		want := []string{g.SID}
		for r := range joined {
			want = append(want, "r"+strconv.Itoa(r))
		}
		slices.Sort(want)
		var rooms []string
		until(t, "all rooms to be joined", func() error {
			var who []json.RawMessage
			if err := json.Unmarshal([]byte(g.call(t, "whoami")), &who); err != nil {
				return err
			}
			if err := json.Unmarshal(who[2], &rooms); err != nil {
				return err
			}
			if slices.Sort(rooms); !slices.Equal(rooms, want) {
				return fmt.Errorf("they are %v, want %v", rooms, want)
			}
			return nil
		})
		g.away(t, second)
		g.back(t, first.dial(t)) // with the rooms it had
		var who []json.RawMessage
		_ = json.Unmarshal([]byte(g.call(t, "whoami")), &who)
		_ = json.Unmarshal(who[2], &rooms)
		if slices.Sort(rooms); !slices.Equal(rooms, want) {
			t.Errorf("rooms after a recovery: %v, want %v", rooms, want)
		}
		g.away(t, first)
	}
}

// kickedMeanwhile: a client that is disconnected while its conn moves stays so.
func kickedMeanwhile(t *testing.T, first, second *recoveryNode) {
	for i := range 20 {
		g := newGuest("/")
		l := first.poll(t)
		g.connect(t, l, nil)
		kicked := make(chan struct{})
		go func() {
			defer close(kicked)
			time.Sleep(time.Duration(i) * 200 * time.Microsecond) // another moment each time
			first.Of("/").To(g.SID).DisconnectSockets(true)
		}()
		_ = second.tryUpgrade(t, l) // or it polls on, to its end
		for _, _, err := l.next(); err == nil; {
			_, _, err = l.next()
		}
		<-kicked
		l.cut()
		until(t, "the socket to end everywhere", yes(func() bool { return first.Of("/").Count()+second.Of("/").Count() == 0 }))
		sid := g.SID
		if g.connect(t, second.dial(t), nil) || g.SID == sid {
			t.Fatal("a client that was disconnected got its socket back")
		}
		g.away(t, second)
	}
}

// trunkBreaksMeanwhile: the client loses its connection, comes back, and has
// missed nothing.
func trunkBreaksMeanwhile(t *testing.T, first, second *recoveryNode) {
	for i := range 10 {
		g := newGuest("/")
		l := first.poll(t)
		g.connect(t, l, nil)
		g.call(t, "join", "r1")
		publish(t, first.Of("/").To("r1"), 1)
		broken := make(chan struct{})
		go func() {
			defer close(broken)
			time.Sleep(time.Duration(i) * 200 * time.Microsecond)
			first.breakTrunks()
		}()
		err := second.tryUpgrade(t, l)
		<-broken
		publish(t, first.Of("/").To("r1"), 2)
		if err == nil {
			err = g.readUntil(func() bool { return len(g.came) == 2 })
		}
		for returns := 0; err != nil && returns < 3; returns++ { // more than one: see broken
			sid := g.SID
			if !g.connect(t, second.dial(t), nil) || g.SID != sid {
				t.Fatalf("not recovered after %v: %+v", err, g)
			}
			err = g.readUntil(func() bool { return len(g.came) == 2 })
		}
		if err != nil {
			t.Fatal(err)
		}
		g.saw(t, "1", "2")
		g.line.cut()
		until(t, "the conn to end everywhere", yes(func() bool { return first.Conns()+second.Conns() == 0 }))
	}
}

// amidMessages: while messages are published, conns move, and each client gets each
// message once and in order.
func amidMessages(t *testing.T, first, second *recoveryNode) {
	const clients, messages = 30, 1500
	var guests []*guest
	for range clients {
		g := newGuest("/")
		g.connect(t, first.poll(t), nil)
		g.call(t, "join", "r1")
		guests = append(guests, g)
	}
	published := make(chan error, 1)
	go func() {
		for i := range messages {
			from := first
			if i%2 == 1 {
				from = second
			}
			if err := emit(from.Of("/").To("r1"), i); err != nil {
				published <- err
				return
			}
		}
		published <- nil
	}()
	done := make(chan error, clients)
	for _, g := range guests {
		go func() {
			done <- func() error {
				if err := g.readUntil(func() bool { return len(g.came) > 20 }); err != nil {
					return err
				}
				if err := second.tryUpgrade(t, g.line); err != nil {
					return err
				}
				return g.readUntil(func() bool { return len(g.came) >= messages })
			}()
		}()
	}
	for range clients {
		if err := <-done; err != nil { // every read has a deadline; all of them together take long
			t.Fatal(err)
		}
	}
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	for _, g := range guests {
		g.saw(t, numbers(0, messages)...)
	}
	second.moved(t, clients)
}
