package engine

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"
)

// readBufferBytes is the read buffer of one poller, shared by its conns.
const readBufferBytes = 16 << 10

// loop is the event loop: nbio's core engine with level-triggered epoll, no
// listeners, no timers and no executor of its own.
type loop struct{ engine *nbio.Engine }

// nbioLog passes what nbio has to complain about to the default logger; its news
// of starting and stopping is no news. nbio's logger is one for the process.
type nbioLog struct{}

func (nbioLog) Debug(string, ...any) {}
func (nbioLog) Info(string, ...any)  {}
func (nbioLog) Warn(format string, v ...any) {
	slog.Default().Warn("nbio", "text", fmt.Sprintf(format, v...))
}

func (nbioLog) Error(format string, v ...any) {
	slog.Default().Error("nbio", "text", fmt.Sprintf(format, v...))
}

// startLoop starts the pollers; their events go to the conns.
func startLoop(s *Server) (*loop, error) {
	logging.SetLogger(nbioLog{})
	e := nbio.NewEngine(nbio.Config{
		Name:           "edge",
		Network:        "tcp",
		NPoller:        s.cfg.Pollers,
		ReadBufferSize: readBufferBytes,
		// Never reached: a shard hands over nothing while a backlog exists.
		MaxWriteBufferSize: s.cfg.OutboxBytes + s.maxPacket,
	})
	e.OnData(func(nb *nbio.Conn, data []byte) {
		if l := listenerOf(nb); l != nil {
			l.onData(data)
		}
	})
	e.OnWrittenSize(func(nb *nbio.Conn, _ []byte, n int) {
		if l := listenerOf(nb); l != nil {
			l.onWritten(n)
		}
	})
	// On another goroutine than the poller, possibly before AddConn returned.
	e.OnClose(func(nb *nbio.Conn, err error) {
		if l := listenerOf(nb); l != nil {
			l.onClosed(err)
		}
	})
	if err := e.Start(); err != nil {
		return nil, err
	}
	return &loop{e}, nil
}

// listener is what the event loop tells of a connection: the conn it belongs to,
// or a candidate for one.
type listener interface {
	onData(data []byte) // one goroutine at a time; data is scratch space
	onWritten(n int)    // n bytes are with the kernel
	onClosed(err error)
}

// listenerOf returns the session of a connection. epoll orders what the front
// door did before what the pollers do; ordered says so in Go's memory model, too.
func listenerOf(nb *nbio.Conn) listener {
	if l, ok := nb.Session().(interface {
		listener
		ordered() bool
	}); ok && l.ordered() {
		return l
	}
	return nil
}

// seat is nbio's session of a connection that changes hands: nbio's own field must
// not change while it is read. It keeps nothing of who had it before.
type seat struct{ at atomic.Pointer[listener] }

// give makes l the one that is told. It may be called by any goroutine.
func (s *seat) give(l listener) { s.at.Store(&l) }

func (s *seat) ordered() bool      { return s.at.Load() != nil }
func (s *seat) onData(data []byte) { (*s.at.Load()).onData(data) }
func (s *seat) onWritten(n int)    { (*s.at.Load()).onWritten(n) }
func (s *seat) onClosed(err error) { (*s.at.Load()).onClosed(err) }

// add puts the connection into epoll.
func (l *loop) add(nb *nbio.Conn) error {
	_, err := l.engine.AddConn(nb)
	return err
}

// stop closes every connection that is left and ends the pollers.
func (l *loop) stop() { l.engine.Stop() }
