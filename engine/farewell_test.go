package engine

import (
	"testing"
)

// Nothing comes in one payload with the packet that ends a session: socket.io-client would have an event twice that
// may be recovered, and come back by itself after a DISCONNECT.
func TestFarewellApart(t *testing.T) {
	s := newUnstarted(t)
	for _, tt := range []struct {
		what    string
		orderly bool // the application disconnected the client, which asks for what is left
		packets []string
		want    string
	}{
		{"events and the end", false, []string{`42["a"]`, `42["b"]`, "1"}, "42[\"a\"]\x1e42[\"b\"]"},
		{"the end alone", false, []string{"1"}, "1"},
		{"the application's last words", true, []string{"41", "1"}, "41"},
		{"the end alone, in order", true, []string{"1"}, "1"},
	} {
		c := &conn{srv: s}
		got := make(chan answer, 1)
		c.poll = &polling{c: c, closed: !tt.orderly, parked: &parked{func(a answer) { got <- a }}}
		s.hub.Attach(&c.fan, c, never)
		c.state.Store(connClosing)
		var frames []byte
		for _, p := range tt.packets {
			frames = append(frames, engineMessage(p).Frame...)
		}
		if err := c.poll.write(frames); err != nil {
			t.Fatal(err)
		}
		if a := <-got; string(a.body) != tt.want {
			t.Errorf("%s: the poll was answered %q, want %q", tt.what, a.body, tt.want)
		}
	}
}
