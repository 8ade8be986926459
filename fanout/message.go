package fanout

import (
	"sync"
	"time"
)

// ID is the position of a message in the journal of its namespace. The zero ID
// means "not journalled".
type ID struct {
	Ms    uint64
	Seq   uint32
	Epoch uint32 // this node's number of the journal's epoch, from 1; a later epoch has a higher one
}

// After reports whether a is later than b. Every position of a later epoch is.
func (a ID) After(b ID) bool {
	if a.Epoch != b.Epoch {
		return a.Epoch > b.Epoch
	}
	return a.Ms > b.Ms || a.Ms == b.Ms && a.Seq > b.Seq
}

// IsZero reports whether the message is not journalled.
func (a ID) IsZero() bool { return a == ID{} }

// Message is one encoded message, shared by all its recipients. It is immutable
// once handed to the Hub, and must not be copied: see WithFrame.
type Message struct {
	Frame   []byte // finished bytes for the transport, always whole packets
	ID      ID     // journal position; members skip what they already have
	Packets int    // Engine.IO packets in Frame, for counting; 0 counts as 1

	Arrived   time.Time // when the hub got it from the bus; zero for direct sends
	Published time.Time // when this node published it; zero for messages of others

	Namespace uint32 // whose journal ID is of
	Stamp     bool   // not journalled, but carries a position: the shard has Config.Stamp add the receiver's
	Volatile  bool   // may be lost: dropped for conns that are not writable, and by a full inbox
	Plain     bool   // never compressed

	// Made by the first shard that needs it, then read-only.
	once       sync.Once
	compressed *Message // the message itself if that is not worth it
}

// WithFrame is the message with other bytes.
func (m *Message) WithFrame(frame []byte) *Message {
	return &Message{
		Frame: frame, ID: m.ID, Packets: m.Packets, Arrived: m.Arrived, Published: m.Published,
		Namespace: m.Namespace, Stamp: m.Stamp, Volatile: m.Volatile, Plain: m.Plain,
	}
}

// Key names a room. Room "" is the namespace itself: every member that joined it.
type Key struct {
	Namespace uint32
	Room      string
}

// Target selects members: the union of Rooms and Members, minus all that are
// in one of Except or listed in ExceptMembers, each once.
type Target struct {
	Rooms         []*Room
	Members       []*Member
	Except        []*Room
	ExceptMembers []*Member
}

// simple reports whether the target is one room and nothing else: the hot path.
func (t *Target) simple() bool {
	return len(t.Rooms) == 1 && len(t.Members) == 0 && len(t.Except) == 0 && len(t.ExceptMembers) == 0
}
