package socketio

import (
	"path"
	"testing"
)

func TestChannels(t *testing.T) {
	var c Channels
	other := Channels{Key: "my[app]"}
	tests := []struct{ got, want string }{
		{c.Broadcast("/"), "socket.io#/#"},
		{c.Broadcast("/chat"), "socket.io#/chat#"},
		{c.Room("/chat", "room1"), "socket.io#/chat#room1#"},
		{c.Request("/"), "socket.io-request#/#"},
		{c.Response("/"), "socket.io-response#/#"},
		{c.ResponseTo("/chat", "aBcDeF"), "socket.io-response#/chat#aBcDeF#"},
		{c.Pattern("/"), "socket.io#/#*"},
		{c.PrivatePattern("/", "node0001"), "socket.io#/#node0001????????????#"},
		{other.Broadcast("/"), "my[app]#/#"},
		{other.Pattern("/a*b?"), `my\[app\]#/a\*b\?#*`},
		{other.PrivatePattern(`/\`, "n*de-_01"), `my\[app\]#/\\#n\*de-_01????????????#`},
		{c.Target("/", nil), "socket.io#/#"},
		{c.Target("/", []string{"a"}), "socket.io#/#a#"},
		{c.Target("/", []string{"a", "b"}), "socket.io#/#"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s, want %s", tt.got, tt.want)
		}
	}
	// path.Match treats *, ? and escapes as Redis does, apart from the slash.
	private := other.PrivatePattern("n", "abc[?]*d")
	if ok, err := path.Match(private, other.Room("n", "abc[?]*d0123456789ab")); !ok || err != nil {
		t.Errorf("%s does not match its own room: %v", private, err)
	}
	for _, room := range []string{"abc[?]*d0123456789a", "abc[?]*d0123456789abc", "abc?xxxd0123456789ab"} {
		if ok, _ := path.Match(private, other.Room("n", room)); ok {
			t.Errorf("%s matches %s", private, room)
		}
	}
}

func TestRoomOf(t *testing.T) {
	var c Channels
	tests := []struct {
		namespace, channel, room string
		ok                       bool
	}{
		{"/", "socket.io#/#", "", true},
		{"/", "socket.io#/#room1#", "room1", true},
		{"/", "socket.io#/#a#b#", "a#b", true},
		{"/", "socket.io#/##", "", true},
		{"/chat", "socket.io#/chat#", "", true},
		{"/chat", "socket.io#/chat#room1#", "room1", true},
		{"/", "socket.io#/chat#room1#", "", false},
		{"/chat", "socket.io#/#room1#", "", false},
		{"/", "socket.io#/#room1", "room1", false},
		{"/", "socket.io-request#/#", "", false},
		{"/", "socket.io#/", "", false},
		{"/", "socket.io", "", false},
		{"/", "", "", false},
	}
	for _, tt := range tests {
		if room, ok := c.RoomOf(tt.namespace, tt.channel); ok != tt.ok || (ok && room != tt.room) {
			t.Errorf("%s in %s: %q, %v", tt.channel, tt.namespace, room, ok)
		}
	}
	for _, room := range []string{"r", "#", "a#", "é *?"} {
		for _, ns := range []string{"/", "/a#b"} {
			if got, ok := c.RoomOf(ns, c.Room(ns, room)); got != room || !ok {
				t.Errorf("%q in %q: %q, %v", room, ns, got, ok)
			}
		}
	}
}
