// Package guest is a Socket.IO client for the few connections of a benchmark that do things the mass
// does not: change presence while messages flow, ask for it, or live through faults. It costs goroutines
// and waits for answers; measuring thousands is the business of package load.
package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stellara/edge/websocket"
)

// Guest is a Conn for those who want one call for each thing that a client does. It ignores events.
// Its methods may be called from any goroutine.
type Guest struct{ conn *Conn }

// Dial connects to a server as user and returns when the server answered the CONNECT packet.
func Dial(ctx context.Context, addr, user string) (*Guest, error) {
	conn, err := Connect(ctx, addr, Hello{User: user})
	if err != nil {
		return nil, fmt.Errorf("guest: connecting %s to %s: %w", user, addr, err)
	}
	go func() { _ = conn.Run(nil) }() // why it ended is part of what Ask returns
	return &Guest{conn}, nil
}

// SID returns the socket id.
func (g *Guest) SID() string { return g.conn.SID() }

// Gone returns a channel that is closed when the connection has ended, whoever ended it.
func (g *Guest) Gone() <-chan struct{} { return g.conn.Done() }

// ask emits an event about a room and waits for a positive acknowledgement.
func (g *Guest) ask(ctx context.Context, event, room string) (json.RawMessage, error) {
	a, err := g.conn.Ask(ctx, event, room, nil)
	if err == nil && !a.OK {
		err = errors.New("refused: " + a.Code + " " + a.Error)
	}
	if err != nil {
		return nil, fmt.Errorf("guest: %s %s: %w", event, room, err)
	}
	return a.Raw, nil
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
	err := g.conn.send(websocket.Close, websocket.AppendClosePayload(nil, websocket.CodeNormal, ""))
	if err == nil {
		select {
		case <-g.conn.done:
		case <-ctx.Done():
		}
	}
	g.conn.Drop()
}
