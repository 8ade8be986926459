package engine

import (
	"context"
	"errors"
)

// Peers reaches the other nodes.
type Peers interface {
	Open(ctx context.Context, node string, r Receiver) (Stream, error)
}

// Stream is one conversation with another node.
type Stream interface {
	Send(kind byte, payload []byte) error
	Close()
}

// Receiver is what a stream's messages go to.
type Receiver interface {
	Receive(kind byte, payload []byte)
	Broken(err error)
}

// ErrNoPeer says that there is no node of that name, or none any more.
var ErrNoPeer = errors.New("engine: no such node")

// Accept takes a stream that another node opened, with its first message.
func (s *Server) Accept(Stream, byte, []byte) Receiver { return nil }
