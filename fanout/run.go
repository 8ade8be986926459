package fanout

import "time"

// run is the shard's goroutine: it sleeps until something is in the inbox or a tick is
// over, and makes passes until nothing is left.
func (s *shard) run() {
	ticker := time.NewTicker(s.hub.cfg.Tick)
	defer ticker.Stop()
	s.ticks = ticker.C
	for {
		select {
		case <-s.hub.stop:
			return
		case <-s.ticks:
			s.expire()
			s.flush()
			s.report()
			continue // what expiry enqueued comes with its own wake
		case <-s.wake:
		}
		for start := time.Now(); s.pass(); start = time.Now() {
			if !s.rest(s.pace.after(start, time.Now())) {
				return
			}
		}
	}
}

// rest waits between two passes, while the inbox collects what comes. It reports
// false if the shard is to end.
func (s *shard) rest(d time.Duration) bool {
	if d <= 0 {
		select {
		case <-s.hub.stop:
			return false
		default:
			return true
		}
	}
	if s.pause == nil {
		s.pause = time.NewTimer(d)
	} else {
		s.pause.Reset(d)
	}
	select {
	case <-s.hub.stop:
		return false
	case <-s.pause.C:
		return true
	}
}

// pass drains the inbox into outboxes, then writes each dirty conn once; more
// often only beyond flushEvery. It reports false when there was nothing to do and
// the shard may sleep.
func (s *shard) pass() bool {
	ops, lost, ok := s.take()
	if !ok {
		return false
	}
	s.expireIfDue()
	s.hub.m.ShardQueue.Add(float64(len(ops)))
	for i := range ops {
		s.do(&ops[i])
		ops[i] = op{}
		if s.stats.delivered >= flushEvery {
			s.flush()
			s.report()
			s.expireIfDue()
		}
	}
	s.hub.m.ShardQueue.Sub(float64(len(ops)))
	s.giveUp(&lost)
	s.flush()
	s.report()
	if cap(ops) > 1<<14 {
		ops = nil // a burst's buffer is not kept
	}
	s.spare = ops
	return true
}

func (s *shard) expire() { s.wheel.advance(s.hub.Now(), s.expireConn) }

// expireIfDue lets a busy shard keep its deadlines.
func (s *shard) expireIfDue() {
	select {
	case <-s.ticks:
		s.expire()
	default:
	}
}

func (s *shard) expireConn(c *Conn) {
	m, next := c.sink.Expire(s.hub.Now())
	if m != nil {
		c.push(m)
	}
	if c.flags&connDetached == 0 {
		s.wheel.set(c, next)
	}
}
