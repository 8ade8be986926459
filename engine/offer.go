package engine

import "encoding/json"

// offer is what the node that takes a conn over is told of it, as JSON.
type offer struct {
	Handshake offeredHandshake `json:"handshake"`
	Owner     string           `json:"owner"` // Sessions.Owner of the node that gives it away
	Sockets   []offeredSocket  `json:"sockets"`
}

type offeredHandshake struct {
	Header  map[string][]string `json:"header,omitempty"`
	Time    int64               `json:"time"`
	Address string              `json:"address"`
	Path    string              `json:"path"`
	Query   string              `json:"query"`
	XDomain bool                `json:"xdomain,omitempty"`
	Secure  bool                `json:"secure,omitempty"`
}

type offeredSocket struct {
	Namespace  string          `json:"nsp"`
	SID        string          `json:"sid"`
	PID        string          `json:"pid"`
	Generation uint64          `json:"generation"`
	User       string          `json:"user,omitempty"`
	Auth       json.RawMessage `json:"auth,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
	Rooms      []roomName      `json:"rooms,omitempty"`
}

// ending is what became due for the conn's sockets between the offer and the cut,
// in order: the node that has them now does it.
type ending struct {
	Ops []deferredOp `json:"ops,omitempty"`
}

// roomName is a room's name, in base64 as JSON: it may be any bytes.
type roomName string

// MarshalJSON implements json.Marshaler.
func (n roomName) MarshalJSON() ([]byte, error) { return json.Marshal([]byte(n)) }

// UnmarshalJSON implements json.Unmarshaler.
func (n *roomName) UnmarshalJSON(b []byte) error {
	var raw []byte
	err := json.Unmarshal(b, &raw)
	*n = roomName(raw)
	return err
}

// What a deferredOp does.
const (
	opJoin  = "join"
	opLeave = "leave"
	opData  = "data"
)

// deferredOp is one change of one socket.
type deferredOp struct {
	Socket int             `json:"socket"` // its number in the offer
	Op     string          `json:"op"`
	Room   roomName        `json:"room,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
}

func (s *Socket) offered() offeredSocket {
	var rooms []roomName
	for _, room := range s.Rooms()[1:] {
		rooms = append(rooms, roomName(room))
	}
	data := encodeData(s.Data())
	s.mu.Lock()
	defer s.mu.Unlock()
	return offeredSocket{
		Namespace: s.nsp.name, SID: s.ID(), PID: s.session.pid, Generation: s.session.generation, User: s.session.user,
		Auth: json.RawMessage(s.auth), Data: data, Rooms: rooms,
	}
}
