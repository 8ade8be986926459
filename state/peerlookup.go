package state

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stellara/edge/socketio"
)

const (
	peerNames     = 512         // that Redis is asked for at once
	peerLookups   = 4096        // callers of Lookup that wait
	peerCacheTime = time.Second // for which an address that was found counts
)

// question is a node that is looked up, for all who want to know.
type question struct {
	node    string
	waiting int           // callers; under Peers.mu
	done    chan struct{} // closed when it was answered
	addr    string        // set before that
	err     error
}

// Lookup returns the address of a node. However many ask, and for whatever names,
// one command at a time asks Redis, for up to 512 of them; what was found counts
// for a second. The error is ErrNoPeer if there is no such node, ErrUnavailable
// if Redis is away, ErrQueueFull if 4,096 callers wait, ErrClosed after State.Run,
// or ctx's.
func (p *Peers) Lookup(ctx context.Context, node string) (addr string, err error) {
	if !socketio.IsBase64URL(node) || len(node) != nodeLen {
		return "", ErrNoPeer
	}
	down := p.link.down()
	p.mu.Lock()
	if addr, ok := p.known.get(node, time.Now()); ok {
		p.mu.Unlock()
		return addr, nil
	}
	q, err := p.question(node, down)
	p.mu.Unlock()
	if err != nil {
		return "", err
	}
	notify(p.asked)
	select {
	case <-q.done:
		return q.addr, q.err
	case <-ctx.Done():
		p.leave(q)
		return "", ctx.Err()
	}
}

// question adds one caller to those who ask for a node. The caller holds mu.
func (p *Peers) question(node string, down error) (*question, error) {
	switch {
	case p.ended:
		return nil, ErrClosed
	case down != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, down)
	case p.waiting >= peerLookups:
		return nil, ErrQueueFull
	}
	q := p.questions[node]
	if q == nil {
		q = &question{node: node, done: make(chan struct{})}
		p.questions[node] = q
		p.queue = append(p.queue, q)
	}
	q.waiting++
	p.waiting++
	return q, nil
}

// leave says that a caller waits no longer.
func (p *Peers) leave(q *question) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-q.done:
		return // it does not count any more
	default:
	}
	q.waiting--
	p.waiting--
	if q.waiting == 0 && p.questions[q.node] == q {
		delete(p.questions, q.node)
		p.queue = slices.DeleteFunc(p.queue, func(o *question) bool { return o == q })
	}
}

// lookupLoop asks Redis until ctx ends.
func (p *Peers) lookupLoop(ctx context.Context) {
	defer p.end()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.asked:
		}
		for {
			qs := p.take()
			if len(qs) == 0 {
				break
			}
			if err := p.ask(ctx, qs); err != nil {
				if ctx.Err() != nil {
					err = ErrClosed
				}
				p.answer(append(qs, p.takeAll()...), err) // nor would it answer those
			}
		}
	}
}

// take takes as many questions as are asked at once.
func (p *Peers) take() []*question {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.takeN(min(len(p.queue), peerNames))
}

func (p *Peers) takeAll() []*question {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.takeN(len(p.queue))
}

// takeN takes the first n questions. The caller holds mu.
func (p *Peers) takeN(n int) []*question {
	qs := slices.Clone(p.queue[:n])
	clear(p.queue[:n])
	if p.queue = p.queue[n:]; len(p.queue) == 0 {
		p.queue = nil
	}
	for _, q := range qs {
		delete(p.questions, q.node)
	}
	return qs
}

// ask asks Redis, and answers the questions if it does.
func (p *Peers) ask(ctx context.Context, qs []*question) error {
	c, _ := p.link.get()
	if c == nil {
		return ErrUnavailable
	}
	keys := make([]string, len(qs))
	for i, q := range qs {
		keys[i] = p.addrKey(q.node)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	addrs, err := c.cmd.Do(ctx, c.cmd.B().Mget().Key(keys...).Build()).AsStrSlice() // a missing one is ""
	if err == nil && len(addrs) != len(qs) {
		err = answered("MGET", len(addrs), len(qs), nil)
	}
	if err != nil {
		if lostConnection(err) {
			p.link.suspect()
		}
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	now := time.Now()
	p.mu.Lock()
	for i, q := range qs {
		if q.addr = addrs[i]; q.addr != "" {
			p.known.mark(q.node, q.addr, now)
		}
	}
	p.mu.Unlock()
	p.answer(qs, nil)
	return nil
}

// answer ends questions: those without an address with err, nil for ErrNoPeer.
func (p *Peers) answer(qs []*question, err error) {
	if err == nil {
		err = ErrNoPeer
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range qs {
		if q.addr == "" {
			q.err = err
		}
		p.waiting -= q.waiting
		close(q.done)
	}
}

// end fails what waits, and every later call.
func (p *Peers) end() {
	p.mu.Lock()
	p.ended = true
	qs := p.takeN(len(p.queue))
	p.mu.Unlock()
	p.answer(qs, ErrClosed)
}
