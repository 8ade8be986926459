// Package guest is a Socket.IO client for the few connections of a benchmark that do things the mass
// does not: change presence while messages flow, or ask for it. A guest costs goroutines, waits for
// answers, and ignores the messages it gets; measuring thousands is the business of package load.
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
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// Guest is one connection, with one socket on the namespace "/". Its methods may be called from any
// goroutine.
type Guest struct {
	net    net.Conn
	reader websocket.Reader
	limits websocket.Limits
	sid    string        // before Dial returns
	ended  chan struct{} // closed when nothing is read any more; err is then set
	err    error

	mu      sync.Mutex // guards the rest; held while writing
	nextAck int
	acks    map[int]chan []byte // capacity 1
}

// Dial connects to a server as user and returns when the server answered the CONNECT packet.
func Dial(ctx context.Context, addr, user string) (*Guest, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	g := &Guest{
		net: conn, limits: websocket.Limits{MaxMessage: 16 << 20}, ended: make(chan struct{}), acks: map[int]chan []byte{},
	}
	// A context that ends closes the connection, so that whatever waits for it returns.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	connected := make(chan string, 1)
	err = g.open(addr)
	if err == nil {
		go g.read(user, connected)
		select {
		case g.sid = <-connected:
		case <-g.ended:
			err = g.err
		}
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("guest: connecting %s to %s: %w", user, addr, errors.Join(err, ctx.Err()))
	}
	return g, nil
}

// open makes the connection a WebSocket. Bytes behind the answer stay in the reader.
func (g *Guest) open(host string) error {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	if _, err := g.net.Write(websocket.AppendRequest(nil, websocket.ClientHandshake{
		Host: host, Path: "/socket.io/?EIO=4&transport=websocket", Key: key,
	})); err != nil {
		return err
	}
	// One byte at a time ends exactly behind the answer; it is short, and guests are few.
	var answer []byte
	for one := make([]byte, 1); ; {
		if _, err := g.net.Read(one); err != nil {
			return err
		}
		answer = append(answer, one[0])
		if _, ok, err := websocket.ReadSwitchingProtocols(answer, key); err != nil || ok {
			return err
		}
	}
}

// read handles what arrives until the connection ends.
func (g *Guest) read(user string, connected chan<- string) {
	defer close(g.ended)
	buf := make([]byte, 16<<10)
	for {
		n, err := g.net.Read(buf)
		if err != nil {
			g.err = err
			return
		}
		for in := buf[:n]; ; {
			m, rest, ok, err := g.reader.Next(in, &g.limits)
			if err == nil && ok {
				err = g.message(m, user, connected)
			}
			if err != nil {
				g.err = err
				return
			}
			if !ok {
				break
			}
			in = rest
		}
	}
}

// message handles one WebSocket message.
func (g *Guest) message(m websocket.Message, user string, connected chan<- string) error {
	switch m.Op {
	case websocket.Ping:
		return g.write(websocket.Pong, m.Data)
	case websocket.Close:
		return fmt.Errorf("closed by the server: %d %s", m.Code, m.Data)
	case websocket.Binary:
		return errors.New("binary message")
	case websocket.Pong:
		return nil
	}
	text := m.Data
	switch {
	case len(text) == 0:
		return errors.New("empty Engine.IO packet")
	case text[0] == byte(socketio.EngineOpen):
		return g.write(websocket.Text, append(socketio.AppendString([]byte(`40{"userId":`), user), '}'))
	case text[0] == byte(socketio.EnginePing):
		return g.write(websocket.Text, []byte{byte(socketio.EnginePong)})
	case bytes.HasPrefix(text, []byte("40")):
		var hello struct {
			SID string `json:"sid"`
		}
		if err := json.Unmarshal(text[2:], &hello); err != nil || hello.SID == "" {
			return fmt.Errorf("no socket id in %q", text)
		}
		select {
		case connected <- hello.SID:
		default:
			return errors.New("second answer to CONNECT")
		}
	case bytes.HasPrefix(text, []byte("43")):
		g.answered(text[2:])
	case bytes.HasPrefix(text, []byte("41")), bytes.HasPrefix(text, []byte("44")):
		return fmt.Errorf("refused or disconnected: %q", text)
	}
	return nil
}

// answered hands an acknowledgement, <id>[...], to who waits for it.
func (g *Guest) answered(text []byte) {
	id, args, ok := bytes.Cut(text, []byte{'['})
	n, err := strconv.Atoi(string(id))
	if !ok || err != nil {
		return
	}
	g.mu.Lock()
	waiting := g.acks[n]
	delete(g.acks, n)
	g.mu.Unlock()
	if waiting != nil {
		waiting <- bytes.TrimSuffix(bytes.Clone(args), []byte{']'})
	}
}

func (g *Guest) write(op websocket.Opcode, payload []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.writeLocked(op, payload)
}

func (g *Guest) writeLocked(op websocket.Opcode, payload []byte) error {
	var key [4]byte
	binary.LittleEndian.PutUint32(key[:], uint32(time.Now().UnixNano()))
	_, err := g.net.Write(websocket.AppendMaskedFrame(nil, op, payload, key))
	return err
}

// SID returns the socket id.
func (g *Guest) SID() string { return g.sid }

// Gone returns a channel that is closed when the connection has ended, whoever ended it.
func (g *Guest) Gone() <-chan struct{} { return g.ended }

// ask emits an event with one string and waits for its acknowledgement.
func (g *Guest) ask(ctx context.Context, event, arg string) ([]byte, error) {
	answer := make(chan []byte, 1)
	g.mu.Lock()
	id := g.nextAck
	g.nextAck++
	g.acks[id] = answer
	b := strconv.AppendInt([]byte("42"), int64(id), 10)
	b = socketio.AppendString(append(b, '['), event)
	b = socketio.AppendString(append(b, ','), arg)
	err := g.writeLocked(websocket.Text, append(b, ']'))
	g.mu.Unlock()
	if err == nil {
		select {
		case text := <-answer:
			if !bytes.Contains(text, []byte(`"ok":true`)) {
				return nil, fmt.Errorf("guest: %s %s refused: %s", event, arg, text)
			}
			return text, nil
		case <-g.ended:
			err = g.err
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	g.mu.Lock()
	delete(g.acks, id)
	g.mu.Unlock()
	return nil, fmt.Errorf("guest: %s %s: %w", event, arg, err)
}

// Join enters a room; it returns when the server acknowledged it.
func (g *Guest) Join(ctx context.Context, room string) error {
	_, err := g.ask(ctx, "join", room)
	return err
}

// Leave leaves a room; it returns when the server acknowledged it.
func (g *Guest) Leave(ctx context.Context, room string) error {
	_, err := g.ask(ctx, "leave", room)
	return err
}

// Presence asks who is in a room that the guest is in, and returns the count.
func (g *Guest) Presence(ctx context.Context, room string) (count int, err error) {
	text, err := g.ask(ctx, "presence", room)
	if err != nil {
		return 0, err
	}
	var there struct {
		Count *int `json:"count"`
	}
	if err := json.Unmarshal(text, &there); err != nil || there.Count == nil {
		return 0, fmt.Errorf("guest: answer to presence %s without a count: %s", room, text)
	}
	return *there.Count, nil
}

// Close sends a close frame and waits for the server to end the connection; when ctx ends it cuts it,
// which is no error.
func (g *Guest) Close(ctx context.Context) {
	err := g.write(websocket.Close, websocket.AppendClosePayload(nil, websocket.CodeNormal, ""))
	if err == nil {
		select {
		case <-g.ended:
		case <-ctx.Done():
		}
	}
	g.net.Close()
	<-g.ended
}
