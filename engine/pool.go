package engine

import "sync"

// pool runs the queued work of sockets on a bounded number of goroutines, which
// end when there is nothing to do. A socket is in the queue at most once, so
// the queue is bounded by the sockets.
type pool struct {
	max int

	mu      sync.Mutex // taken within Socket.mu or alone
	queue   []*Socket
	running int
	idle    sync.Cond // running fell to 0
}

func newPool(max int) *pool {
	p := &pool{max: max}
	p.idle.L = &p.mu
	return p
}

// submit has s.drain called soon.
func (p *pool) submit(s *Socket) {
	p.mu.Lock()
	p.queue = append(p.queue, s)
	if p.running < p.max {
		p.running++
		go p.work()
	}
	p.mu.Unlock()
}

func (p *pool) work() {
	p.mu.Lock()
	for len(p.queue) > 0 {
		s := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		p.mu.Unlock()
		s.drain()
		p.mu.Lock()
	}
	p.queue = nil
	p.running--
	if p.running == 0 {
		p.idle.Broadcast()
	}
	p.mu.Unlock()
}

// wait blocks until no work is queued or running.
func (p *pool) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.running > 0 {
		p.idle.Wait()
	}
}
