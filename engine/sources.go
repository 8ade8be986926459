package engine

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// sourceStripes is how many locks the sources' counts are spread over.
const sourceStripes = 64

// sourceCounts counts the conns of each source, and bounds them. Any goroutine may use it. It remembers sources that
// have conns, and no others, so that MaxConns bounds it. A nil one counts nothing.
type sourceCounts struct {
	most       int32
	publicOnly bool
	trusted    []netip.Prefix
	seed       maphash.Seed // or clients could choose whom they share a lock with
	warned     warned
	stripes    [sourceStripes]sourceStripe
}

type sourceStripe struct {
	mu    sync.Mutex // guards conns; a leaf
	conns map[source]int32
	_     [48]byte // a cache line of its own
}

// newSourceCounts returns nil where nothing is limited.
func newSourceCounts(cfg *Config) *sourceCounts {
	if cfg.MaxConnsPerSource == 0 {
		return nil
	}
	t := &sourceCounts{most: int32(cfg.MaxConnsPerSource), publicOnly: cfg.PublicSourcesOnly, trusted: cfg.TrustedProxies, seed: maphash.MakeSeed()}
	for i := range t.stripes {
		t.stripes[i].conns = make(map[source]int32)
	}
	return t
}

// stripe is where an address is counted; nil if it is not: no IP address, a proxy that did not say whose conn it is, or
// one that is not public where only those count. It is the same for an address at all times.
func (t *sourceCounts) stripe(a netip.Addr) (s *sourceStripe, of source) {
	if t == nil || !a.IsValid() {
		return nil, 0
	}
	a = plainAddress(a)
	if isSpared(a, t.publicOnly, t.trusted) {
		return nil, 0
	}
	of = sourceOf(a)
	return &t.stripes[maphash.Comparable(t.seed, of)%sourceStripes], of
}

// isSpared reports whether an address has no limit of its own: a proxy that did not say whose conn it is, or one that is
// not public where only those have.
func isSpared(a netip.Addr, publicOnly bool, trusted []netip.Prefix) bool {
	return publicOnly && !isPublic(a) || isAmong(a, trusted)
}

// take counts one conn more from an address, unless it has its limit of them: then it reports false.
func (t *sourceCounts) take(a netip.Addr) bool {
	s, of := t.stripe(a)
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[of] >= t.most {
		return false
	}
	s.conns[of]++
	return true
}

// release counts one conn less.
func (t *sourceCounts) release(a netip.Addr) {
	s, of := t.stripe(a)
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[of]--; s.conns[of] <= 0 {
		delete(s.conns, of)
	}
}

// move counts a conn of one address as one of another, whatever the limit: it is there already.
func (t *sourceCounts) move(from, to netip.Addr) {
	if from == to {
		return
	}
	if s, of := t.stripe(to); s != nil {
		s.mu.Lock()
		s.conns[of]++
		s.mu.Unlock()
	}
	t.release(from)
}

// sourceWarned is how often a source that has reached its limit is told of.
const sourceWarned = time.Minute

// warned is when a source was told of, on the server's clock; 0: never.
type warned struct{ at atomic.Int64 }

// again reports whether one may be told of again, and notes that it is.
func (w *warned) again(now int64) bool {
	last := w.at.Load()
	return (last == 0 || now-last >= int64(sourceWarned)) && w.at.CompareAndSwap(last, now)
}

// warnOfRate tells of an address that opens sessions faster than its limit lets it, now and then: it may be a proxy that
// nobody named.
func (s *Server) warnOfRate(from netip.Addr, now int64) {
	if s.limiter.warned.again(now) {
		s.log.Warn("an address connects faster than its limit; a proxy should be among the trusted ones, and say whose its connections are", "address", from.String(), "limit_per_second", s.cfg.ConnectRatePerSource)
	}
}

// warnOfSource does the same for one that has reached its limit of connections.
func (s *Server) warnOfSource(from netip.Addr) {
	if !s.sources.warned.again(int64(time.Since(s.born))) {
		return
	}
	s.log.Warn("an address has reached its limit of connections; a proxy should be among the trusted ones, and say whose they are", "address", from.String(), "limit", s.sources.most)
}

// isPublic reports whether an address is one of the Internet's, as that of a single client or of a NAT is. What is
// private (RFC 1918, RFC 4193), shared within a carrier (RFC 6598) or of the machine or link itself may be a balancer's.
func isPublic(a netip.Addr) bool {
	if a.Is4() {
		if b := a.As4(); b[0] == 100 && b[1]&0xc0 == 64 { // 100.64.0.0/10
			return false
		}
	}
	return a.IsGlobalUnicast() && !a.IsPrivate()
}
