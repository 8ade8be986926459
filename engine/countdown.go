package engine

import "sync/atomic"

// countdown calls a function when something has happened a number of times.
type countdown struct {
	left atomic.Int32
	zero func()
}

func newCountdown(n int, zero func()) *countdown {
	c := &countdown{zero: zero}
	c.left.Store(int32(n))
	return c
}

// down counts one; the last one calls zero.
func (c *countdown) down() {
	if c.left.Add(-1) == 0 {
		c.zero()
	}
}
