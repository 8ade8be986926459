package socketio

import "strings"

// DefaultKey is the prefix of the adapter's channels unless configured otherwise.
const DefaultKey = "socket.io"

// nodePrefix and socketIDLength say how a socket id is built here: 20 characters, of which the first eight are those of
// its node.
const (
	nodePrefix     = 8
	socketIDLength = 20
)

// Channels names the Redis channels of the classic adapter. A namespace includes its leading slash.
type Channels struct {
	Key string // prefix; empty means DefaultKey
}

func (c Channels) key() string {
	if c.Key == "" {
		return DefaultKey
	}
	return c.Key
}

// Broadcast is the channel of broadcasts that are not aimed at exactly one room.
func (c Channels) Broadcast(namespace string) string { return c.key() + "#" + namespace + "#" }

// Room is the channel of broadcasts aimed at exactly this room, which may be a socket id.
func (c Channels) Room(namespace, room string) string {
	return c.key() + "#" + namespace + "#" + room + "#"
}

// Target is the channel that a broadcast to the rooms is published on; whom it excepts does not matter.
func (c Channels) Target(namespace string, rooms []string) string {
	if len(rooms) == 1 {
		return c.Room(namespace, rooms[0])
	}
	return c.Broadcast(namespace)
}

// Request is the channel of requests between nodes. A node must be subscribed to it exactly once per namespace it serves:
// peers count the subscriptions.
func (c Channels) Request(namespace string) string { return c.key() + "-request#" + namespace + "#" }

// Response is the channel of answers that all nodes listen to.
func (c Channels) Response(namespace string) string { return c.key() + "-response#" + namespace + "#" }

// ResponseTo is the channel of answers that only the node with this uid listens to.
func (c Channels) ResponseTo(namespace, uid string) string { return c.Response(namespace) + uid + "#" }

// Pattern is the PSUBSCRIBE pattern of all broadcast channels of the namespace.
func (c Channels) Pattern(namespace string) string { return EscapeGlob(c.Broadcast(namespace)) + "*" }

// PrivatePattern is the PSUBSCRIBE pattern of the channels of all rooms named by a socket id of the node whose ids start
// with node8.
func (c Channels) PrivatePattern(namespace, node8 string) string {
	return EscapeGlob(c.Broadcast(namespace)+node8) + strings.Repeat("?", socketIDLength-nodePrefix) + "#"
}

// PrefixPattern is the PSUBSCRIBE pattern of the channels of all rooms whose names begin with prefix.
func (c Channels) PrefixPattern(namespace, prefix string) string {
	return EscapeGlob(c.Broadcast(namespace)+prefix) + "*"
}

// RoomOf returns the room that a broadcast channel of the namespace is for, empty for the channel of broadcasts not aimed
// at one room. ok is false for any other channel. The room aliases channel.
func (c Channels) RoomOf(namespace, channel string) (room string, ok bool) {
	rest, ok := strings.CutPrefix(channel, c.key())
	if !ok || len(rest) == 0 || rest[0] != '#' {
		return "", false
	}
	rest, ok = strings.CutPrefix(rest[1:], namespace)
	if !ok || len(rest) == 0 || rest[0] != '#' {
		return "", false
	}
	if rest = rest[1:]; rest == "" {
		return "", true
	}
	return strings.CutSuffix(rest, "#")
}

// EscapeGlob is the Redis pattern that matches s only.
func EscapeGlob(s string) string {
	if !strings.ContainsAny(s, `*?[]\`) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		switch s[i] {
		case '*', '?', '[', ']', '\\':
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
