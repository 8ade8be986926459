package engine

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// peerTime bounds the search for a session's owner, a dial included, and what the
// owner may take to answer where it answers at once.
const peerTime = 5 * time.Second

// relayPoll has a GET answered by the owner of its session.
func (s *Server) relayPoll(w http.ResponseWriter, r *http.Request, of *whose) {
	s.m.RelayedRequests[metrics.RelayPoll].Inc()
	s.respondPoll(w, r, s.refusal(s.ask(r.Context(), of, msgPoll, nil, 0)))
}

// relayPost has a POST handled by the owner of its session.
func (s *Server) relayPost(w http.ResponseWriter, r *http.Request, of *whose) {
	kind, ctx := msgPost, r.Context()
	a, body := s.readBody(w, r)
	switch a.status {
	case http.StatusOK:
	case http.StatusRequestEntityTooLarge: // the session survives
		s.respondPost(w, r, a)
		return
	default:
		kind, body, ctx = msgSpoilt, nil, context.WithoutCancel(ctx) // the client may be gone
	}
	s.m.RelayedRequests[metrics.RelayPost].Inc()
	s.respondPost(w, r, s.refusal(s.ask(ctx, of, kind, body, peerTime)))
}

// refusal counts an answer that says that there is no such session.
func (s *Server) refusal(a answer) answer {
	if a.failed != nil && *a.failed == socketio.ErrSessionIDUnknown {
		s.m.Refusals[a.why].Inc()
	}
	return a
}

// ask puts a request to the owner of its session and waits for the answer, with a
// limit that is not 0 no longer than it.
func (s *Server) ask(ctx context.Context, of *whose, kind byte, body []byte, limit time.Duration) answer {
	q := &question{answered: make(chan answer, 1)}
	dial, cancel := context.WithTimeout(ctx, peerTime)
	st, err := s.cfg.Peers.Open(dial, of.owner, q)
	cancel()
	if err != nil {
		return s.noPeer(of, err)
	}
	defer st.Close()
	if err := st.Send(kind, append([]byte(of.sid), body...)); err != nil {
		return s.noPeer(of, err)
	}
	var late <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		late = t.C
	}
	select {
	case a := <-q.answered:
		if a.status == 0 {
			return s.noPeer(of, q.broken())
		}
		a.why = metrics.RefusalSessionUnknown
		return a
	case <-late:
		return s.noPeer(of, context.DeadlineExceeded)
	case <-ctx.Done(): // nobody is there to be answered
		return answer{status: http.StatusBadGateway}
	}
}

// noPeer is the answer to a request whose session's owner is gone or cannot be
// reached: the client opens another session at once, and recovers.
func (s *Server) noPeer(of *whose, err error) answer {
	a := failure(socketio.ErrSessionIDUnknown)
	a.why = metrics.RefusalSessionUnknown
	if !errors.Is(err, ErrNoPeer) {
		a.why = metrics.RefusalPeer
		s.log.Debug("the owner of a session cannot be reached", "peer", of.owner, "error", err)
	}
	return a
}

// question is a request that waits for the owner's answer.
type question struct {
	answered chan answer // capacity 1; one of status 0 says that there will be none

	mu  sync.Mutex // guards err; taken alone
	err error
}

// Receive takes the answer.
func (q *question) Receive(kind byte, payload []byte) {
	if kind == msgAnswer {
		q.tell(parseAnswer(payload))
	}
}

// Broken ends the wait for an answer.
func (q *question) Broken(err error) {
	q.mu.Lock()
	q.err = err
	q.mu.Unlock()
	q.tell(answer{})
}

func (q *question) broken() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

func (q *question) tell(a answer) {
	select {
	case q.answered <- a:
	default: // the first counts
	}
}

// servePoll is the owner's side of relayPoll: a GET that costs no goroutine here.
func (s *Server) servePoll(st Stream, c *conn) Receiver {
	if c == nil {
		st.Send(msgAnswer, appendAnswer(nil, failure(socketio.ErrSessionIDUnknown)))
		st.Close()
		return ignored{}
	}
	g := &relayedGet{p: c.poll}
	g.get = c.poll.park(func(a answer) {
		st.Send(msgAnswer, appendAnswer(nil, a))
		st.Close()
	})
	return g
}

// relayedGet is a GET that waits on another node.
type relayedGet struct {
	p   *polling
	get *parked
}

func (g *relayedGet) Receive(byte, []byte) {}

// Broken says that the client, or the node it is at, went away.
func (g *relayedGet) Broken(error) { g.p.leave(g.get) }

// servePost is the owner's side of relayPost. body is valid during the call only.
func servePost(c *conn, kind byte, body []byte) answer {
	if c == nil {
		return failure(socketio.ErrSessionIDUnknown)
	}
	if kind == msgSpoilt {
		c.close(metrics.CloseTransportError, noCode)
		return answer{status: http.StatusBadRequest}
	}
	if len(body) > c.srv.cfg.MaxPayload {
		return answer{status: http.StatusRequestEntityTooLarge} // the nodes do not agree about MaxPayload
	}
	refused, ok := c.poll.beginPost()
	if !ok {
		return refused
	}
	defer c.poll.endPost()
	return c.poll.post(body)
}
