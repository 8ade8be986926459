package guest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	randv2 "math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// Bounds of waiting. They are long, because a client of a node that is stopped or cut from Redis has to
// wait until that is over.
const (
	handshakeTimeout = 30 * time.Second // from dialling to the answer to CONNECT
	ackTimeout       = 90 * time.Second
	closeTimeout     = 5 * time.Second // for the server's close frame, as the official client waits
	writeTimeout     = 10 * time.Second
)

// Conn is one Socket.IO connection over WebSocket with one socket, as the official client would hold
// it: it answers pings, and takes silence for the end. Its methods may be called from any goroutine, but
// for Run, which is called once.
type Conn struct {
	nc     net.Conn
	reader websocket.Reader // with buf and unread of whoever reads: Connect, then Run
	buf    []byte
	unread []byte

	sid     string        // set by Connect
	pid     string        // set by Connect; "" if the server offers no recovery
	silence time.Duration // pingInterval + pingTimeout; set by Connect
	done    chan struct{} // closed when Run has ended
	err     error         // why; before done is closed

	mu     sync.Mutex
	out    []byte               // scratch
	acks   map[uint64]func(Ack) // what to call with an acknowledgement
	lastID uint64
	silent bool // see Abandon
}

// Hello is what a client says in its CONNECT packet.
type Hello struct {
	User   string
	Token  string // that proves it, where the server asks for one
	PID    string // of the session that it wants back; "" for none
	Offset string // the position up to which it has that session; "" if it never got one

	// Early gets the events that come before the answer, which are what the client missed, each as the
	// text of its array. nil ignores them.
	Early func(event []byte)
}

// packet is the CONNECT packet, with the fields in the order in which the official client sends them.
func (h *Hello) packet() []byte {
	b := []byte("40{")
	for _, f := range []struct{ key, value string }{{`"pid":`, h.PID}, {`"offset":`, h.Offset}, {`"token":`, h.Token}} {
		if f.value != "" {
			b = append(socketio.AppendString(append(b, f.key...), f.value), ',')
		}
	}
	return append(socketio.AppendString(append(b, `"userId":`...), h.User), '}')
}

// Ack is the acknowledgement of the built-in application.
type Ack struct {
	OK    bool   `json:"ok"`
	Code  string `json:"code"`
	Error string `json:"error"`

	Raw json.RawMessage `json:"-"` // the whole object
}

// ErrEnded is the end of a connection while something waited for it.
var ErrEnded = errors.New("the connection ended")

// Connect connects, and returns after the answer to CONNECT. Run must be called next.
func Connect(ctx context.Context, addr string, hello Hello) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	c := &Conn{nc: nc, buf: make([]byte, 4096), done: make(chan struct{}), acks: map[uint64]func(Ack){}}
	if err := c.handshake(addr, &hello); err != nil {
		nc.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return nil, err
	}
	return c, nil
}

// handshake opens the WebSocket, the Engine.IO session and the socket.
func (c *Conn) handshake(addr string, hello *Hello) error {
	var raw [16]byte
	rand.Read(raw[:])
	key := base64.StdEncoding.EncodeToString(raw[:])
	request := websocket.AppendRequest(nil, websocket.ClientHandshake{
		Host: addr, Path: "/socket.io/?EIO=4&transport=websocket", Key: key,
	})
	if _, err := c.nc.Write(request); err != nil {
		return err
	}
	var answer []byte
	for {
		n, err := c.nc.Read(c.buf)
		if err != nil {
			return fmt.Errorf("waiting for the upgrade: %w", err)
		}
		answer = append(answer, c.buf[:n]...)
		rest, ok, err := websocket.ReadSwitchingProtocols(answer, key)
		if err != nil {
			return err
		}
		if ok {
			c.unread = rest
			break
		}
	}
	text, err := c.next()
	if err != nil {
		return fmt.Errorf("waiting for the open packet: %w", err)
	}
	if len(text) == 0 || socketio.EngineType(text[0]) != socketio.EngineOpen {
		return fmt.Errorf("packet %q is not an open packet", text)
	}
	var open struct{ PingInterval, PingTimeout int64 }
	if err := json.Unmarshal(text[1:], &open); err != nil {
		return fmt.Errorf("open packet: %w", err)
	}
	if c.silence = time.Duration(open.PingInterval+open.PingTimeout) * time.Millisecond; c.silence <= 0 {
		return fmt.Errorf("open packet without ping times: %s", text)
	}
	if err := c.send(websocket.Text, hello.packet()); err != nil {
		return err
	}
	return c.greeted(hello.Early)
}

// greeted waits for the answer to CONNECT, 40{"sid":"...","pid":"..."}.
func (c *Conn) greeted(early func(event []byte)) error {
	for {
		text, err := c.next()
		if err != nil {
			return fmt.Errorf("waiting for the answer to CONNECT: %w", err)
		}
		if event, ok := bytes.CutPrefix(text, []byte("42")); ok {
			if early != nil {
				early(event)
			}
			continue
		}
		body, ok := bytes.CutPrefix(text, []byte("40"))
		if !ok {
			if len(text) > 1 && text[0] == byte(socketio.EngineMessage) {
				return fmt.Errorf("CONNECT was answered with %q", text)
			}
			if err := c.pong(text); err != nil {
				return err
			}
			continue
		}
		var answer struct{ SID, PID string }
		if err := json.Unmarshal(body, &answer); err != nil || answer.SID == "" {
			return fmt.Errorf("no socket id in %q", text)
		}
		c.sid, c.pid = answer.SID, answer.PID
		return nil
	}
}

// next returns the next WebSocket message, which is valid until the next call.
func (c *Conn) next() ([]byte, error) {
	limits := websocket.Limits{MaxMessage: 16 << 20}
	for {
		m, rest, ok, err := c.reader.Next(c.unread, &limits)
		if err != nil {
			return nil, err
		}
		if !ok {
			n, err := c.nc.Read(c.buf)
			if err != nil {
				return nil, err
			}
			c.unread = c.buf[:n]
			continue
		}
		c.unread = rest
		switch m.Op {
		case websocket.Text:
			return m.Data, nil
		case websocket.Ping:
			if err := c.send(websocket.Pong, m.Data); err != nil {
				return nil, err
			}
		case websocket.Close:
			_ = c.send(websocket.Close, nil) // the other side closes now, whatever comes of it
			return nil, fmt.Errorf("close frame %d %s", m.Code, m.Data)
		}
	}
}

// SID is the socket id.
func (c *Conn) SID() string { return c.sid }

// Addr is the server's address.
func (c *Conn) Addr() string { return c.nc.RemoteAddr().String() }

// PID is the id of the session, "" if the server offers no recovery.
func (c *Conn) PID() string { return c.pid }

// Done returns a channel that is closed when the connection has ended, whoever ended it.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Run reads until the connection ends and returns why. event gets the text of each event's array,
// ["name",...], on this goroutine, in order with acknowledgements; it is valid until event returns. nil
// ignores events.
func (c *Conn) Run(event func(text []byte)) error {
	c.err = c.read(event)
	c.mu.Lock()
	silent := c.silent
	c.mu.Unlock()
	if !silent {
		c.nc.Close()
	}
	close(c.done)
	return c.err
}

func (c *Conn) read(event func(text []byte)) error {
	c.heard()
	for {
		text, err := c.next()
		if err != nil {
			return err
		}
		switch {
		case bytes.HasPrefix(text, []byte("43")):
			c.acknowledged(text[2:])
		case bytes.HasPrefix(text, []byte("42")):
			if event != nil {
				event(text[2:])
			}
		case bytes.HasPrefix(text, []byte("41")):
			return errors.New("the server disconnected the socket")
		default:
			if err := c.pong(text); err != nil {
				return err
			}
		}
	}
}

// heard allows the server to be silent for as long as the official client does.
func (c *Conn) heard() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.silent {
		_ = c.nc.SetReadDeadline(time.Now().Add(c.silence))
	}
}

// pong answers a packet if it is a ping.
func (c *Conn) pong(text []byte) error {
	if len(text) == 0 || socketio.EngineType(text[0]) != socketio.EnginePing {
		return nil
	}
	c.heard()
	return c.send(websocket.Text, []byte{byte(socketio.EnginePong)})
}

// acknowledged handles <id>[{"ok":...}].
func (c *Conn) acknowledged(text []byte) {
	at := bytes.IndexByte(text, '[')
	if at < 0 {
		return
	}
	id, err := strconv.ParseUint(string(text[:at]), 10, 64)
	if err != nil {
		return
	}
	c.mu.Lock()
	then := c.acks[id]
	delete(c.acks, id)
	c.mu.Unlock()
	if then == nil {
		return
	}
	var args [1]json.RawMessage
	var a Ack
	err = json.Unmarshal(text[at:], &args)
	if err == nil {
		err = json.Unmarshal(args[0], &a)
	}
	if err != nil {
		a = Ack{Code: "unreadable", Error: err.Error()}
	}
	a.Raw = args[0]
	then(a)
}

// Emit sends an event about a room; then is called with its acknowledgement on Run's goroutine, or
// never if the connection ends before.
func (c *Conn) Emit(event, room string, then func(Ack)) error {
	b := socketio.AppendString([]byte{'['}, event)
	b = socketio.AppendString(append(b, ','), room)
	return c.EmitText(append(b, ']'), then)
}

// EmitText is Emit for an event with other arguments: the text of its array.
func (c *Conn) EmitText(event []byte, then func(Ack)) error {
	c.mu.Lock()
	id := c.lastID
	c.lastID++
	c.acks[id] = then
	c.mu.Unlock()
	return c.send(websocket.Text, append(strconv.AppendUint([]byte("42"), id, 10), event...))
}

// Ask is Emit, and waits for the acknowledgement. seen, unless nil, gets it first, on Run's goroutine.
func (c *Conn) Ask(ctx context.Context, event, room string, seen func(Ack)) (Ack, error) {
	return c.ask(ctx, event+" "+room, seen, func(then func(Ack)) error { return c.Emit(event, room, then) })
}

// AskText is EmitText, and waits for the acknowledgement.
func (c *Conn) AskText(ctx context.Context, event []byte) (Ack, error) {
	return c.ask(ctx, "the event", nil, func(then func(Ack)) error { return c.EmitText(event, then) })
}

func (c *Conn) ask(ctx context.Context, what string, seen func(Ack), emit func(func(Ack)) error) (Ack, error) {
	reply := make(chan Ack, 1)
	err := emit(func(a Ack) {
		if seen != nil {
			seen(a)
		}
		reply <- a
	})
	if err != nil {
		return Ack{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	select {
	case a := <-reply:
		return a, nil
	case <-c.done:
		select {
		case a := <-reply: // it came before the end
			return a, nil
		default:
			return Ack{}, fmt.Errorf("%w: %w", ErrEnded, c.err)
		}
	case <-ctx.Done():
		return Ack{}, fmt.Errorf("%s was not acknowledged: %w", what, ctx.Err())
	}
}

// send writes one masked frame.
func (c *Conn) send(op websocket.Opcode, payload []byte) error {
	var key [4]byte
	binary.LittleEndian.PutUint32(key[:], randv2.Uint32())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = websocket.AppendMaskedFrame(c.out[:0], op, payload, key)
	_ = c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := c.nc.Write(c.out)
	return err
}
