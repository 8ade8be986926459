package chaos

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

// conn is one Socket.IO connection over WebSocket with one socket, as the official client would hold
// it: it answers pings, and takes silence for the end.
type conn struct {
	nc     net.Conn
	reader websocket.Reader // with buf and unread of whoever reads: dial, then run
	buf    []byte
	unread []byte

	sid     string        // set by dial
	silence time.Duration // pingInterval + pingTimeout; set by dial
	done    chan struct{} // closed when run has ended

	mu     sync.Mutex
	out    []byte               // scratch
	acks   map[uint64]func(ack) // what to call with an acknowledgement
	lastID uint64
}

// ack is the acknowledgement of the built-in application.
type ack struct {
	OK    bool   `json:"ok"`
	Code  string `json:"code"`
	Error string `json:"error"`
	told
}

// errEnded is the end of a connection while something waited for it.
var errEnded = errors.New("the connection ended")

// dial connects, and returns after the answer to CONNECT. run must be called next.
func dial(ctx context.Context, addr, user string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	c := &conn{nc: nc, buf: make([]byte, 4096), done: make(chan struct{}), acks: map[uint64]func(ack){}}
	if err := c.handshake(addr, user); err != nil {
		nc.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return nil, err
	}
	return c, nil
}

// handshake opens the WebSocket, the Engine.IO session and the socket.
func (c *conn) handshake(addr, user string) error {
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
	c.silence = time.Duration(open.PingInterval+open.PingTimeout) * time.Millisecond
	connect := append(socketio.AppendString([]byte(`40{"userId":`), user), '}')
	if err := c.send(websocket.Text, connect); err != nil {
		return err
	}
	return c.greeted()
}

// greeted waits for the answer to CONNECT, 40{"sid":"..."}.
func (c *conn) greeted() error {
	for {
		text, err := c.next()
		if err != nil {
			return fmt.Errorf("waiting for the answer to CONNECT: %w", err)
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
		var answer struct{ SID string }
		if err := json.Unmarshal(body, &answer); err != nil || answer.SID == "" {
			return fmt.Errorf("CONNECT was answered with %q", text)
		}
		c.sid = answer.SID
		return nil
	}
}

// next returns the next WebSocket message, which is valid until the next call.
func (c *conn) next() ([]byte, error) {
	var limits websocket.Limits
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

// run reads until the connection ends and returns why. presence gets the payload of presence events on
// this goroutine, in order with acknowledgements; nil ignores them.
func (c *conn) run(presence func(payload []byte)) error {
	defer close(c.done)
	defer c.nc.Close()
	c.heard()
	for {
		text, err := c.next()
		if err != nil {
			return err
		}
		switch {
		case bytes.HasPrefix(text, []byte("43")):
			c.acknowledged(text[2:])
		case bytes.HasPrefix(text, []byte(presencePrefix)):
			if presence != nil {
				presence(bytes.TrimSuffix(text[len(presencePrefix):], []byte("]")))
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

const presencePrefix = `42["presence",`

// heard allows the server to be silent for as long as the official client does.
func (c *conn) heard() { _ = c.nc.SetReadDeadline(time.Now().Add(c.silence)) }

// pong answers a packet if it is a ping.
func (c *conn) pong(text []byte) error {
	if len(text) == 0 || socketio.EngineType(text[0]) != socketio.EnginePing {
		return nil
	}
	c.heard()
	return c.send(websocket.Text, []byte{byte(socketio.EnginePong)})
}

// acknowledged handles <id>[{"ok":...}].
func (c *conn) acknowledged(text []byte) {
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
	var args [1]ack
	if err := json.Unmarshal(text[at:], &args); err != nil {
		args[0] = ack{Code: "unreadable", Error: err.Error()}
	}
	then(args[0])
}

// emit sends an event about a room; then is called with its acknowledgement on run's goroutine, or
// never if the connection ends before.
func (c *conn) emit(event, room string, then func(ack)) error {
	c.mu.Lock()
	id := c.lastID
	c.lastID++
	c.acks[id] = then
	c.mu.Unlock()
	b := strconv.AppendUint([]byte("42"), id, 10)
	b = socketio.AppendString(append(b, '['), event)
	b = socketio.AppendString(append(b, ','), room)
	return c.send(websocket.Text, append(b, ']'))
}

// ask is emit, and waits for the acknowledgement. seen, unless nil, gets it first, on run's goroutine.
func (c *conn) ask(event, room string, seen func(ack)) (ack, error) {
	reply := make(chan ack, 1)
	err := c.emit(event, room, func(a ack) {
		if seen != nil {
			seen(a)
		}
		reply <- a
	})
	if err != nil {
		return ack{}, err
	}
	timer := time.NewTimer(ackTimeout)
	defer timer.Stop()
	select {
	case a := <-reply:
		return a, nil
	case <-c.done:
		return ack{}, errEnded
	case <-timer.C:
		return ack{}, fmt.Errorf("%s was not acknowledged within %v", event, ackTimeout)
	}
}

// send writes one masked frame.
func (c *conn) send(op websocket.Opcode, payload []byte) error {
	var key [4]byte
	binary.LittleEndian.PutUint32(key[:], randv2.Uint32())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = websocket.AppendMaskedFrame(c.out[:0], op, payload, key)
	_ = c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := c.nc.Write(c.out)
	return err
}

// leave ends the connection as the official client does, with DISCONNECT and the closing handshake, and
// returns when it has ended. A server that does not answer is left alone after a while.
func (c *conn) leave() {
	_ = c.send(websocket.Text, []byte("41"))
	_ = c.send(websocket.Close, websocket.AppendClosePayload(nil, websocket.CodeNormal, ""))
	select {
	case <-c.done:
	case <-time.After(closeTimeout):
		c.drop()
	}
}

// drop ends the connection without a word, as a machine that loses its network does at best.
func (c *conn) drop() {
	c.nc.Close()
	<-c.done
}
