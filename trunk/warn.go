package trunk

import (
	"net"
	"sync"
	"time"
)

// Bounds of warnings about a wrong secret: each comes again with every attempt.
const (
	warnEvery = 10 * time.Second // per host
	warnHosts = 256              // remembered; beyond, hosts are not named until some are forgotten
)

// warnings says which hosts were warned about lately.
type warnings struct {
	mu   sync.Mutex // innermost
	last map[string]time.Time
}

// due reports whether a warning about host is due, and notes it.
func (w *warnings) due(host string, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.last[host]) < warnEvery {
		return false
	}
	if len(w.last) >= warnHosts {
		for h, at := range w.last {
			if now.Sub(at) >= warnEvery {
				delete(w.last, h)
			}
		}
		if len(w.last) >= warnHosts {
			return false
		}
	}
	if w.last == nil {
		w.last = map[string]time.Time{}
	}
	w.last[host] = now
	return true
}

// hostOf is the host of an address, or all of it if there is no port.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}
