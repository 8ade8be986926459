package delivery

import (
	"fmt"
	"testing"
	"time"
)

// one makes a crowd of one client, in room 5 and stream 5, whose next message is 11.
func one(f *fake) *Crowd {
	return NewCrowd(NewFleet([]string{f.addr}), Plan{
		Prefix: "ada", Clients: 1, Home: -1, Dialing: 1,
		Rooms: func(int) []int { return []int{5} }, Room: func(room int) string { return fmt.Sprintf("r%d", room) },
		Streams: func(room int) []int { return []int{room} }, Due: func(int) uint64 { return 11 }, Read: Numbered,
	})
}

func message(n int, offset string) string {
	return fmt.Sprintf(`42["message","r5",{"from":"bob"},{"stream":5,"n":%d},"%s"]`, n, offset)
}

// got shows what a session received in one go.
func got(s Session) string {
	if len(s.Got) != 1 {
		return fmt.Sprint(s.Got)
	}
	g := s.Got[0]
	return fmt.Sprintf("%d: %d-%d over %d", g.Stream, g.First, g.Last, g.Conn)
}

// TestClientComesBack plays a recovery, one that fails, and one that begins with a torn answer.
func TestClientComesBack(t *testing.T) {
	f := newFake(t)
	c := one(f)
	defer c.Close()

	k := f.next()
	k.expect(`40{"userId":"ada0"}`)
	k.send(`40{"sid":"s1","pid":"p1"}`)
	k.expect(`420["join","r5"]`)
	k.send(message(10, "e.10-0"), `430[{"ok":true}]`, message(11, "e.11-0"))
	until(t, "the message", func() bool { return c.Behind(map[int]uint64{5: 11}) == 0 })
	if c.Absent() != 0 || c.Lacking(map[int]uint64{5: 11}) != 0 || c.Lacking(map[int]uint64{5: 12}) != 1 {
		t.Error("the client is not counted as there, or as lacking a message")
	}

	c.DropAll(0)
	k2 := f.next()
	select {
	case _, open := <-k.texts:
		t.Fatalf("the abandoned connection ends or speaks: %v", open)
	default:
	}
	k2.expect(`40{"pid":"p1","offset":"e.11-0","userId":"ada0"}`)
	k2.send(message(12, "e.12-0"), `40{"sid":"s1","pid":"p1"}`, message(13, "e.13-0"))
	until(t, "what was missed", func() bool { return c.Behind(map[int]uint64{5: 13}) == 0 })
	if c.Absent() != 0 {
		t.Error("a recovered client joins again")
	}

	// The server ends it; the session is not recovered, so the room is joined again.
	k2.c.Close()
	k3 := f.next()
	k3.expect(`"offset":"e.13-0"`)
	k3.send(`40{"sid":"s2","pid":"p2"}`)
	k3.expect(`420["join","r5"]`)
	k3.send(`430[{"ok":true}]`)
	until(t, "the join", func() bool { return c.Absent() == 0 })

	// The old offset stays, as the official client has it, and what comes before an answer that never
	// comes is not forgotten.
	k3.c.Close()
	k4 := f.next()
	k4.expect(`40{"pid":"p2","offset":"e.13-0","userId":"ada0"}`)
	k4.send(message(14, "e.14-0"))
	k4.c.Close()
	k5 := f.next()
	k5.expect(`40{"pid":"p2","offset":"e.13-0","userId":"ada0"}`)
	k5.send(`40{"sid":"s2","pid":"p2"}`, message(15, "e.15-0"))
	until(t, "the last message", func() bool { return c.Behind(map[int]uint64{5: 15}) == 0 })

	tally := TallyOf(c.Returns(0), time.Time{})
	if tally.Returned != 3 || tally.Recovered != 2 || tally.Told != 1 || tally.Replayed != 2 {
		t.Errorf("%+v", tally)
	}
	h := c.Histories()[0]
	if len(h.Sessions) != 2 || got(h.Sessions[0]) != "5: 10-13 over 1" || got(h.Sessions[1]) != "5: 14-15 over 2" {
		t.Errorf("%+v", h)
	}
	if found := Check(c.Histories(), map[int]uint64{5: 15}, make([]bool, 1)); found.Total.Lost != 3 {
		// The second join promised everything from 11.
		t.Errorf("%+v", found.Total)
	}
}

func TestSpoiledClientAsksForAnotherSession(t *testing.T) {
	f := newFake(t)
	c := one(f)
	defer c.Close()
	k := f.next()
	k.expect("40{")
	k.send(`40{"sid":"s1","pid":"p1"}`)
	k.expect(`420["join"`)
	k.send(`430[{"ok":true}]`)
	until(t, "the join", func() bool { return c.Absent() == 0 })
	c.Spoil()
	c.Hold()
	k.c.Close()
	until(t, "the end", func() bool { return c.Connected() == 0 })
	c.Release()
	k = f.next()
	k.expect(`40{"pid":"1p",`)
	k.send(`40{"sid":"s2","pid":"p2"}`)
	until(t, "the return", func() bool { return len(c.Returns(0)) == 1 })
	if c.Returns(0)[0].Recovered {
		t.Error("recovered under another pid")
	}
}

func TestJoinThatIsRefusedIsTriedAgain(t *testing.T) {
	f := newFake(t)
	c := one(f)
	defer c.Close()
	k := f.next()
	k.expect("40{")
	k.send(`40{"sid":"s1"}`)
	k.expect(`420["join"`)
	k.send(`430[{"ok":false,"code":"unavailable"}]`)
	k = f.next()
	k.expect(`40{"userId":"ada0"}`) // without recovery there is no session to ask for
	k.send(`40{"sid":"s2"}`)
	k.expect(`420["join"`)
	k.send(`430[{"ok":true}]`)
	until(t, "the join", func() bool { return c.Absent() == 0 })
	if e := c.TakeEvents(); e.Refused["join unavailable"] != 1 {
		t.Errorf("%+v", e)
	}
}
