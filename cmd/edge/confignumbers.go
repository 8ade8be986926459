package main

import "time"

// checkNumbers compares durations, sizes and rates with their bounds.
func (c *Config) checkNumbers(p *problems) {
	durations := []struct {
		name     string
		v        time.Duration
		min, max time.Duration
	}{
		{"PING_INTERVAL", c.PingInterval, minTimer, maxTimer},
		{"PING_TIMEOUT", c.PingTimeout, minTimer, maxTimer},
		{"CONNECT_TIMEOUT", c.ConnectTimeout, minTimer, maxTimer},
		{"WRITE_DELAY", c.WriteDelay, 0, maxWriteDelay},
		{"PRESENCE_WINDOW", c.PresenceWindow, 0, maxPresenceWindow},
		{"PRESENCE_GRACE", c.PresenceGrace, 0, maxPresenceGrace},
		{"PRESENCE_LEASE", c.PresenceLease, minLease, maxLease},
		{"SHUTDOWN_GRACE", c.ShutdownGrace, minGrace, maxGrace},
	}
	for _, d := range durations {
		if !p.has(d.name) && (d.v < d.min || d.v > d.max) {
			p.add(d.name, "%v is not between %v and %v", d.v, d.min, d.max)
		}
	}
	if !p.has("MAX_CONNS") && c.MaxConns < 0 {
		p.add("MAX_CONNS", "%d is below 0 (0 means: the open-file limit less %d)", c.MaxConns, spareFiles)
	}
	if !p.has("DEFLATE_FROM") && (c.DeflateFrom < 1 || c.DeflateFrom > maxPayload) {
		p.add("DEFLATE_FROM", "%d is not between 1 and %d bytes", c.DeflateFrom, maxPayload)
	}
	if !p.has("MAX_PAYLOAD") && (c.MaxPayload < minPayload || c.MaxPayload > maxPayload) {
		p.add("MAX_PAYLOAD", "%d is not between %d and %d bytes", c.MaxPayload, minPayload, maxPayload)
	}
	if n := c.TCPNotSentLowat; !p.has("TCP_NOTSENT_LOWAT") && n != 0 && (n < minNotSent || n > maxNotSent) {
		p.add("TCP_NOTSENT_LOWAT", "%d is neither 0 nor between %d and %d bytes", n, minNotSent, maxNotSent)
	}
}
