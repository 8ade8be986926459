package engine

import (
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/websocket"
)

// moment is a time in units of 1,024 ns since the server was made, modulo 2^32: it goes round in 73 minutes.
type moment uint32

const (
	momentShift  = 10
	momentsOfOne = float64(time.Second) / (1 << momentShift) // per second
)

func momentOf(sinceStart time.Duration) moment { return moment(sinceStart >> momentShift) }

// pace is the generic cell rate algorithm, as gcra, for schedules that every conn has: 4 bytes for each. The zero pace
// lets everything pass.
type pace struct {
	cost      uint64 // of one unit, in moments times 2^paceShift
	tolerance uint32 // moments that a schedule may be ahead: what the burst costs
}

const (
	paceShift = 16
	// coarse is how many moments a unit must cost to be rounded to whole ones, by 3 % at most: then exactly the burst
	// passes at once. What costs less is many bytes, of which nobody counts the last.
	coarse = 16
	// longestBurst bounds tolerance: what a schedule is ahead by must not be taken for what it is behind by.
	longestBurst = 30 * time.Minute
)

// newPace lets perSecond units in, and burst of them at once; 0 per second is no limit.
func newPace(perSecond float64, burst int) pace {
	if perSecond == 0 {
		return pace{}
	}
	p := pace{cost: max(uint64(momentsOfOne/perSecond*(1<<paceShift)), 1)}
	if p.cost >= coarse<<paceShift {
		p.cost = (p.cost + 1<<(paceShift-1)) >> paceShift << paceShift
	}
	p.tolerance = uint32(min(p.charged(burst), uint64(momentOf(longestBurst))))
	return p
}

// charged is what n units cost, in moments, rounded up.
func (p pace) charged(n int) uint64 { return (uint64(n)*p.cost + 1<<paceShift - 1) >> paceShift }

// charge takes n units into account that came at now, and reports whether they may pass. next is the schedule after
// them; if they may not, the schedule is of no use any more. The schedule 0 is that of who has sent nothing. A schedule
// that is ahead by more than it may is one that is past, by up to 43 minutes or, because the clock goes round, by more.
func (p pace) charge(schedule moment, n int, now moment) (next moment, ok bool) {
	ahead := uint64(uint32(schedule - now))
	if schedule == 0 || ahead > uint64(p.tolerance) { // once in 73 minutes 0 would be ahead, and new conns have no burst
		ahead = 0
	}
	ahead += p.charged(n)
	return now + moment(ahead), ahead <= uint64(p.tolerance)
}

// inboundRates are the limits of what one client sends.
type inboundRates struct{ packets, bytes pace }

// newInboundRates returns nil where nothing is limited.
func newInboundRates(cfg *Config) *inboundRates {
	if cfg.PacketRate == 0 && cfg.ByteRate == 0 {
		return nil
	}
	return &inboundRates{packets: newPace(cfg.PacketRate, cfg.PacketBurst), bytes: newPace(cfg.ByteRate, cfg.ByteBurst)}
}

// sent are a conn's schedules. They belong to the goroutine that reads.
type sent struct{ packets, bytes moment }

// charge takes packets and bytes of a client into account; ok is false if they were too many, and why says which.
func (r *inboundRates) charge(s *sent, packets, bytes int, now moment) (why metrics.Close, ok bool) {
	if s.packets, ok = r.packets.charge(s.packets, packets, now); !ok {
		return metrics.ClosePacketRate, false
	}
	s.bytes, ok = r.bytes.charge(s.bytes, bytes, now)
	return metrics.CloseByteRate, ok
}

// moment is the time for charge, which is asked for once for all that was read together.
func (c *conn) moment() moment {
	if c.srv.rates == nil {
		return 0
	}
	return momentOf(time.Since(c.srv.born))
}

// charge reports whether the client may go on, having sent so much. If it may not, it is disconnected from its
// namespaces, so that Socket.IO's clients do not come back by themselves and send the same again.
func (c *conn) charge(packets, bytes int, now moment) bool {
	if c.srv.rates == nil {
		return true
	}
	why, ok := c.srv.rates.charge(&c.sent, packets, bytes, now)
	if ok || c.state.Load() != connOpen {
		return ok
	}
	c.srv.log.Debug("client sends too fast", "address", c.handshake.address(), "reason", why.String())
	c.disconnectAll()
	c.close(why, websocket.CodePolicy)
	return false
}
