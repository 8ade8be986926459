package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stellara/edge/metrics"
)

// returns are scenarios of what a client gets back, and from where on.
func returns() map[string]scenario {
	return map[string]scenario{
		"everything":                   {run: everythingComesBack},
		"data":                         {run: dataComesBack},
		"offsets":                      {run: offsetsAreOnEverything},
		"without an offset":            {run: returnWithoutOffset},
		"offset of another epoch":      {run: returnWithForeignOffset},
		"offset of the session before": {run: offsetOfTheSessionBefore},
		"two namespaces":               {run: twoNamespaces},
	}
}

func everythingComesBack(t *testing.T, n *recoveryNode) {
	nsp, g := n.Of("/"), newGuest("/")
	g.connect(t, n.dial(t), nil)
	if len(g.PID) != 20 || g.PID == g.SID {
		t.Fatalf("pid %q", g.PID)
	}
	g.call(t, "join", "r1")
	g.call(t, "data", map[string]int{"a": 1})
	publish(t, nsp.To("r1"), 1)
	g.expect(t, "1")
	g.away(t, n)
	publish(t, nsp.To("r1"), 2)
	publish(t, nsp.To("r2"), 3) // not its room
	publish(t, nsp.To(g.SID), 4)
	publish(t, n.everybody(), 5)
	publish(t, nsp.To("r1").Except(g.SID), 6)
	publish(t, nsp.To("r1").Volatile(), 7)
	publish(t, nsp.To("r1", g.SID), 8) // once

	g.back(t, n.dial(t), "2", "4", "5", "8")
	if got := g.call(t, "whoami"); got != fmt.Sprintf(`[%q,true,[%q,"r1"]]`, g.SID, g.SID) {
		t.Errorf("whoami: %s", got)
	}
	if got := g.call(t, "getdata"); got != `[{"a":1}]` {
		t.Errorf("data: %s", got)
	}
	publish(t, nsp.To("r1"), 9)
	publish(t, nsp.To(g.SID), 10)
	g.expect(t, "9", "10")
	if got := n.recoveries(metrics.RecoveryComplete); got != 1 {
		t.Errorf("complete recoveries: %v", got)
	}
}

// dataComesBack also when it was set just before the end, and as it was set last.
func dataComesBack(t *testing.T, n *recoveryNode) {
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	for i := range 20 {
		g.call(t, "data", i)
	}
	g.line.cut()
	g.back(t, n.dial(t))
	if got := g.call(t, "getdata"); got != `[19]` {
		t.Errorf("data: %s", got)
	}
	g.call(t, "data", nil)
	g.away(t, n)
	g.back(t, n.dial(t))
	if got := g.call(t, "getdata"); got != `[null]` {
		t.Errorf("data that was taken away: %s", got)
	}
}

// offsetsAreOnEverything: every event ends with one, also one whose last argument
// is a string.
func offsetsAreOnEverything(t *testing.T, n *recoveryNode) {
	nsp, g := n.Of("/"), newGuest("/")
	g.connect(t, n.dial(t), nil)
	next := func(prefix string) (offset string) {
		t.Helper()
		text, _, err := g.line.next()
		rest, ok := strings.CutPrefix(text, prefix)
		if err != nil || !ok {
			t.Fatalf("%q does not begin with %q, %v", text, prefix, err)
		}
		offset = strings.TrimSuffix(rest, `"]`)
		if len(offset) < len("12345678.0-0") || offset[8] != '.' || !strings.Contains(offset[9:], "-") {
			t.Fatalf("offset %q of %q", offset, text)
		}
		return offset
	}
	say := func(packet string) {
		t.Helper()
		if err := g.line.send(packet); err != nil {
			t.Fatal(err)
		}
	}
	attachment := func(want string) {
		t.Helper()
		if data, binary, err := g.line.next(); data != want || !binary || err != nil {
			t.Errorf("attachment %q, %v", data, err)
		}
	}
	say(`42["direct",1]`)
	first := next(`42["direct",1,"text","`)
	_ = nsp.Local().Emit("local", "text")
	if at := next(`42["local","text","`); at != first {
		t.Errorf("offset %q after %q without a journalled message", at, first)
	}
	_ = nsp.Volatile().Emit("volatile", "text")
	next(`42["volatile","text","`)
	_ = nsp.Emit("journalled")
	at := next(`42["journalled","`)
	say(`42["direct",2]`)
	if got := next(`42["direct",2,"text","`); got != at {
		t.Errorf("offset %q after %q without a journalled message", got, at)
	}
	_ = nsp.Emit("bin", []byte{1, 2, 3}, "text")
	next(`451-["bin",{"_placeholder":true,"num":0},"text","`)
	attachment("\x01\x02\x03")
	_ = nsp.Local().Emit("bin", []byte{4}, "text")
	next(`451-["bin",{"_placeholder":true,"num":0},"text","`)
	attachment("\x04")
}

// returnWithoutOffset begins at the session's start: the client knows of nothing.
func returnWithoutOffset(t *testing.T, n *recoveryNode) {
	publish(t, n.everybody(), 0) // before the session
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	publish(t, n.everybody(), 1)
	publish(t, n.everybody(), 2)
	g.expect(t, "1", "2")
	g.away(t, n)
	publish(t, n.everybody(), 3)
	g.offset = ""
	g.back(t, n.dial(t), "1", "2", "3")
}

// returnWithForeignOffset: an offset that says nothing of this journal is as good as none.
func returnWithForeignOffset(t *testing.T, n *recoveryNode) {
	publish(t, n.everybody(), 0)
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	publish(t, n.everybody(), 1)
	g.expect(t, "1")
	g.away(t, n)
	publish(t, n.everybody(), 2)
	g.offset = "AAAAAAAA.9999999999999-0"
	g.back(t, n.dial(t), "1", "2")
}

// offsetOfTheSessionBefore: a client that failed to recover and does so at its
// next return gets nothing from the session before, although socket.io-client
// sends the old offset.
func offsetOfTheSessionBefore(t *testing.T, n *recoveryNode) {
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	publish(t, n.everybody(), 1)
	g.expect(t, "1")
	g.away(t, n)
	publish(t, n.everybody(), 2)
	g.PID = "AAAAAAAAAAAAAAAAAAAA"
	if g.connect(t, n.dial(t), nil) {
		t.Fatal("recovered by a wrong pid")
	}
	g.away(t, n)
	publish(t, n.everybody(), 3)
	g.back(t, n.dial(t), "3")
}

// twoNamespaces come back over one conn, each with what it missed, in order.
func twoNamespaces(t *testing.T, n *recoveryNode) {
	root, chat := newGuest("/"), newGuest("/chat")
	l := n.dial(t)
	for _, g := range []*guest{root, chat} {
		g.connect(t, l, nil)
		g.call(t, "join", "r1")
	}
	publish(t, n.Of("/").To("r1"), 0)
	publish(t, n.Of("/chat").To("r1"), 100)
	root.expect(t, "0")
	chat.expect(t, "100")
	root.away(t, n)
	for i := 1; i <= 5; i++ {
		publish(t, n.Of("/").To("r1"), i)
		publish(t, n.Of("/chat").To("r1"), 100+i)
	}
	l = n.dial(t)
	sids := []string{root.SID, chat.SID}
	for _, g := range []*guest{root, chat} {
		if err := g.wish(l, nil); err != nil { // both before either is answered
			t.Fatal(err)
		}
	}
	if err := root.readUntil(func() bool { return root.answered && chat.answered }); err != nil {
		t.Fatal(err)
	}
	if !root.same || !chat.same || root.SID != sids[0] || chat.SID != sids[1] {
		t.Fatalf("not recovered: %+v, %+v", root, chat)
	}
	root.saw(t, numbers(1, 6)...)
	chat.saw(t, numbers(101, 106)...)
	publish(t, n.Of("/").To("r1"), 6)
	publish(t, n.Of("/chat").To("r1"), 106)
	root.expect(t, "6")
	chat.expect(t, "106")
}

// rooms are scenarios of joining and leaving.
func rooms() map[string]scenario {
	return map[string]scenario{
		"late join":           {run: lateJoin},
		"left before the end": {run: leftBeforeTheEnd},
		"left and joined":     {run: leftAndJoined},
		"left after a return": {run: leftAfterAReturn},
	}
}

// lateJoin: who joined a room gets nothing from before, now or after a recovery.
func lateJoin(t *testing.T, n *recoveryNode) {
	room, g := n.Of("/").To("r1"), newGuest("/")
	g.connect(t, n.dial(t), nil)
	for i := range 3 {
		publish(t, room, i)
	}
	g.call(t, "join", "r1")
	g.away(t, n)
	publish(t, room, 3)
	g.back(t, n.dial(t), "3")
	g.away(t, n)
	g.offset = "" // from the session's start, which was before the join
	g.back(t, n.dial(t), "3")
}

func leftBeforeTheEnd(t *testing.T, n *recoveryNode) {
	room, g := n.Of("/").To("r1"), newGuest("/")
	g.connect(t, n.dial(t), nil)
	g.call(t, "join", "r1")
	publish(t, room, 1)
	g.expect(t, "1")
	g.call(t, "leave", "r1")
	g.away(t, n)
	publish(t, room, 2)
	publish(t, n.everybody(), 3)
	g.back(t, n.dial(t), "3")
	publish(t, room, 4)
	publish(t, n.everybody(), 5)
	g.expect(t, "5")
	if got := g.call(t, "whoami"); got != fmt.Sprintf(`[%q,true,[%q]]`, g.SID, g.SID) {
		t.Errorf("whoami: %s", got)
	}
}

// leftAndJoined: what came between is not for the socket, also after a return
// that begins before it.
func leftAndJoined(t *testing.T, n *recoveryNode) {
	room, g := n.Of("/").To("r1"), newGuest("/")
	g.connect(t, n.dial(t), nil)
	g.call(t, "join", "r1")
	g.call(t, "leave", "r1")
	publish(t, room, 1)
	g.call(t, "join", "r1")
	publish(t, room, 2)
	g.expect(t, "2")
	g.away(t, n)
	publish(t, room, 3)
	g.offset = ""
	g.back(t, n.dial(t), "2", "3")
}

// leftAfterAReturn: a room that a return gave back is left for good, with
// messages in it that were missed.
func leftAfterAReturn(t *testing.T, n *recoveryNode) {
	room, g := n.Of("/").To("r1"), newGuest("/")
	g.connect(t, n.dial(t), nil)
	g.call(t, "join", "r1")
	g.away(t, n)
	publish(t, room, 1)
	g.back(t, n.dial(t), "1")
	g.call(t, "leave", "r1")
	publish(t, room, 2)
	g.away(t, n)
	publish(t, room, 3)
	g.back(t, n.dial(t))
	publish(t, room, 4)
	publish(t, n.everybody(), 5)
	g.expect(t, "5")
}
