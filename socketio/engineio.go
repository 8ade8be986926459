package socketio

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// EngineType is the type of an Engine.IO packet: its first character on the wire.
type EngineType byte

// The packet types of Engine.IO protocol revision 4.
const (
	EngineOpen    EngineType = '0'
	EngineClose   EngineType = '1'
	EnginePing    EngineType = '2'
	EnginePong    EngineType = '3'
	EngineMessage EngineType = '4'
	EngineUpgrade EngineType = '5'
	EngineNoop    EngineType = '6'
)

// engineBinary is the first character of a binary message written as base64 text.
const engineBinary = 'b'

// EnginePacket is one Engine.IO packet.
type EnginePacket struct {
	Type   EngineType
	Binary bool   // Data is a binary message; Type is then EngineMessage
	Data   []byte // what follows the type
}

// ParseEngine takes apart an Engine.IO packet written as text: a WebSocket text message, or one element of a polling
// payload. Data aliases text, except that of a binary message ("b" and base64), which is decoded into new memory. Base64
// may use either alphabet and may lack padding, as Buffer.from accepts it.
func ParseEngine(text []byte) (EnginePacket, error) {
	switch {
	case len(text) == 0:
		return EnginePacket{}, errors.New("socketio: empty Engine.IO packet")
	case text[0] == engineBinary:
		data, err := decodeBase64(text[1:])
		return EnginePacket{Type: EngineMessage, Binary: true, Data: data}, err
	case text[0] < byte(EngineOpen) || text[0] > byte(EngineNoop):
		return EnginePacket{}, fmt.Errorf("socketio: unknown Engine.IO packet type %q", text[0])
	}
	return EnginePacket{Type: EngineType(text[0]), Data: text[1:]}, nil
}

func decodeBase64(text []byte) ([]byte, error) {
	for len(text) > 0 && text[len(text)-1] == '=' {
		text = text[:len(text)-1]
	}
	encoding := base64.RawStdEncoding
	for _, c := range text {
		if c == '-' || c == '_' {
			encoding = base64.RawURLEncoding
			break
		}
	}
	data := make([]byte, encoding.DecodedLen(len(text)))
	n, err := encoding.Decode(data, text)
	if err != nil {
		return nil, fmt.Errorf("socketio: binary packet: %w", err)
	}
	return data[:n], nil
}

// AppendEngine appends an Engine.IO packet as text: the type and the data.
func AppendEngine(dst []byte, t EngineType, data []byte) []byte {
	return append(append(dst, byte(t)), data...)
}

// AppendEngineBinary appends a binary message as text, "b" and padded base64: for polling and for clients that asked for
// base64 (b64). On a WebSocket a binary message otherwise is a binary message, with nothing in front.
func AppendEngineBinary(dst, data []byte) []byte {
	return base64.StdEncoding.AppendEncode(append(dst, engineBinary), data)
}

// Open is the content of the open packet. The durations are sent in whole milliseconds.
type Open struct {
	SID          string   // Engine.IO session id; a secret of the client
	Upgrades     []string // transports the client may upgrade to
	PingInterval time.Duration
	PingTimeout  time.Duration
	MaxPayload   int // bytes of one message or polling body
}

// AppendOpen appends the JSON of the open packet, without the type '0' in front.
func AppendOpen(dst []byte, o Open) []byte {
	dst = append(dst, `{"sid":`...)
	dst = AppendString(dst, o.SID)
	dst = append(dst, `,"upgrades":`...)
	dst = appendStrings(dst, o.Upgrades)
	dst = append(dst, `,"pingInterval":`...)
	dst = strconv.AppendInt(dst, o.PingInterval.Milliseconds(), 10)
	dst = append(dst, `,"pingTimeout":`...)
	dst = strconv.AppendInt(dst, o.PingTimeout.Milliseconds(), 10)
	dst = append(dst, `,"maxPayload":`...)
	dst = strconv.AppendInt(dst, int64(o.MaxPayload), 10)
	return append(dst, '}')
}

// ParseOpen reads the JSON of an open packet, for clients.
func ParseOpen(data []byte) (Open, error) {
	var o struct {
		SID          string   `json:"sid"`
		Upgrades     []string `json:"upgrades"`
		PingInterval int64    `json:"pingInterval"`
		PingTimeout  int64    `json:"pingTimeout"`
		MaxPayload   int      `json:"maxPayload"`
	}
	if err := json.Unmarshal(data, &o); err != nil {
		return Open{}, fmt.Errorf("socketio: open packet: %w", err)
	}
	if o.SID == "" {
		return Open{}, errors.New("socketio: open packet without sid")
	}
	return Open{
		SID:          o.SID,
		Upgrades:     o.Upgrades,
		PingInterval: time.Duration(o.PingInterval) * time.Millisecond,
		PingTimeout:  time.Duration(o.PingTimeout) * time.Millisecond,
		MaxPayload:   o.MaxPayload,
	}, nil
}

// EngineError is the answer to a request that the Engine.IO endpoint refuses. Its values are comparable.
type EngineError struct {
	Code    int
	Message string
	Status  int // HTTP status of the answer to a polling request; a refused upgrade is always answered with 400
}

// The errors of the Engine.IO endpoint. An allow hook may refuse with a text of its own in place of ErrForbidden's.
var (
	ErrTransportUnknown    = EngineError{0, "Transport unknown", http.StatusBadRequest}
	ErrSessionIDUnknown    = EngineError{1, "Session ID unknown", http.StatusBadRequest}
	ErrBadHandshakeMethod  = EngineError{2, "Bad handshake method", http.StatusBadRequest}
	ErrBadRequest          = EngineError{3, "Bad request", http.StatusBadRequest}
	ErrForbidden           = EngineError{4, "Forbidden", http.StatusForbidden}
	ErrUnsupportedProtocol = EngineError{5, "Unsupported protocol version", http.StatusBadRequest}
)

func (e EngineError) Error() string { return "socketio: " + e.Message }

// AppendJSON appends the body of the answer to a polling request: {"code":N,"message":"…"}.
func (e EngineError) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"code":`...)
	dst = strconv.AppendInt(dst, int64(e.Code), 10)
	dst = append(dst, `,"message":`...)
	return append(AppendString(dst, e.Message), '}')
}

// appendStrings appends a JSON array of strings: [] when there are none, never null.
func appendStrings(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, s)
	}
	return append(dst, ']')
}
