package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/socketio"
)

// maxPending is the largest MAX_PENDING.
const maxPending = 1_000_000

// checkConnectRates is about how clients connect.
func (c *Config) checkConnectRates(p *problems) {
	if !p.has("MAX_PENDING") && (c.MaxPending < 1 || c.MaxPending > maxPending) {
		p.add("MAX_PENDING", "%d is not between 1 and %d", c.MaxPending, maxPending)
	}
	for _, r := range []struct {
		name  string
		v     float64
		burst string
		n     int
	}{
		{"CONNECT_RATE", c.ConnectRate, "CONNECT_BURST", c.ConnectBurst},
		{"CONNECT_RATE_PER_IP", c.connectRatePerIP(), "CONNECT_BURST_PER_IP", c.ConnectBurstPerIP},
	} {
		if !p.has(r.name) && r.v != 0 && !(r.v >= engine.MinConnectRate && r.v <= engine.MaxConnectRate) { // NaN neither
			p.add(r.name, "%v is neither 0 nor between %v and %v per second", r.v, engine.MinConnectRate, engine.MaxConnectRate)
		}
		if !p.has(r.burst) && (r.n < 0 || r.n > engine.MaxConnectBurst) {
			p.add(r.burst, "%d is not between 0 (a second's worth) and %d", r.n, engine.MaxConnectBurst)
		}
	}
}

// usualConnsPerIP is MAX_CONNS_PER_IP for public addresses unless it is set: more than an office or a carrier's NAT has
// of one application's clients as a rule, and little enough that one machine cannot take all that a node has.
const usualConnsPerIP = 1_000

// CONNECT_RATE_PER_IP and its burst for public addresses unless they are set: those who come back together, as many as may be there,
// are let in at once, and one machine that connects all the time takes a hundredth of a core.
const usualConnectRate, usualConnectBurst = 100, usualConnsPerIP

// connectRatePerIP is CONNECT_RATE_PER_IP, or what holds for public addresses in its place.
func (c *Config) connectRatePerIP() float64 {
	if c.ConnectRatePerIP != nil {
		return *c.ConnectRatePerIP
	}
	return usualConnectRate
}

// usualBurst is how many seconds' worth a client may send at once unless it is told otherwise.
const usualBurst = 4

// Bounds of what one client may do. They exclude mistakes, not choices.
const (
	maxPerClient                   = 10_000_000 // conns of one address or user
	maxMaxRooms                    = 1_000_000
	minHeaderBytes, maxHeaderBytes = 1 << 10, 1 << 20
)

// checkLimits is about what one client may do.
func (c *Config) checkLimits(p *problems) {
	number := func(name string, n, least, most int) {
		if !p.has(name) && (n < least || n > most) {
			p.add(name, "%d is not between %d and %d", n, least, most)
		}
	}
	if c.MaxConnsPerIP != nil {
		number("MAX_CONNS_PER_IP", *c.MaxConnsPerIP, 0, maxPerClient)
	}
	number("MAX_CONNS_PER_USER", c.MaxConnsPerUser, 0, maxPerClient)
	number("MAX_ROOMS", c.MaxRooms, 1, maxMaxRooms)
	number("MAX_ATTACHMENTS", c.MaxAttachments, 0, socketio.MaxAttachments)
	number("MAX_HEADER_BYTES", c.MaxHeaderBytes, minHeaderBytes, maxHeaderBytes)
	for _, d := range []struct {
		name string
		v    time.Duration
	}{{"ATTACHMENT_TIMEOUT", c.AttachmentTimeout}, {"HEADER_TIMEOUT", c.HeaderTimeout}} {
		if !p.has(d.name) && (d.v < minTimer || d.v > maxTimer) {
			p.add(d.name, "%v is not between %v and %v", d.v, minTimer, maxTimer)
		}
	}
	c.checkInbound(p)
}

// checkInbound is about what a client sends per second.
func (c *Config) checkInbound(p *problems) {
	for _, r := range []struct {
		name       string
		v          float64
		least, top float64
		burst      string
		n          int
	}{
		{"PACKET_RATE", c.PacketRate, engine.MinPacketRate, engine.MaxPacketRate, "PACKET_BURST", c.PacketBurst},
		{"BYTE_RATE", c.ByteRate, engine.MinByteRate, engine.MaxByteRate, "BYTE_BURST", c.ByteBurst},
	} {
		if !p.has(r.name) && r.v != 0 && !(r.v >= r.least && r.v <= r.top) { // NaN neither
			p.add(r.name, "%v is neither 0 nor between %v and %v per second", r.v, r.least, r.top)
			continue
		}
		if most := r.v * engine.MaxBurstTime.Seconds(); !p.has(r.name) && !p.has(r.burst) && (r.n < 0 || r.v != 0 && float64(r.n) > most) {
			p.add(r.burst, "%d is not between 0 (the default) and what %s lets in within %v, %.0f", r.n, r.name, engine.MaxBurstTime, most)
		}
	}
	least := 2 * c.MaxPayload
	if c.ByteRate == 0 || p.has("BYTE_RATE") || p.has("BYTE_BURST") || p.has("MAX_PAYLOAD") {
		return
	}
	if c.ByteBurst > 0 && c.ByteBurst < least {
		p.add("BYTE_BURST", "%d is below 2 x MAX_PAYLOAD, %d: the largest message could not be sent", c.ByteBurst, least)
	}
	if most := c.ByteRate * engine.MaxBurstTime.Seconds(); float64(least) > most {
		p.add("BYTE_RATE", "%v is too low for MAX_PAYLOAD: twice that, %d, is more than it lets in within %v", c.ByteRate, least, engine.MaxBurstTime)
	}
}

// limit tells the engine of what one client may do.
func (c *Config) limit(e *engine.Config) {
	e.TrustedProxies = c.TrustedProxies
	e.ConnectRate, e.ConnectBurst = c.ConnectRate, c.ConnectBurst
	e.ConnectRatePerSource, e.ConnectBurstPerSource = c.connectRatePerIP(), c.ConnectBurstPerIP
	if e.ConnectRatePublicOnly = c.ConnectRatePerIP == nil; e.ConnectRatePublicOnly && e.ConnectBurstPerSource == 0 {
		e.ConnectBurstPerSource = usualConnectBurst
	}
	if c.MaxConnsPerIP != nil {
		e.MaxConnsPerSource = *c.MaxConnsPerIP
	} else {
		e.MaxConnsPerSource, e.PublicSourcesOnly = usualConnsPerIP, true
	}
	e.PacketRate, e.PacketBurst = c.PacketRate, c.PacketBurst
	if e.PacketBurst == 0 {
		e.PacketBurst = max(int(usualBurst*c.PacketRate), 1)
	}
	e.ByteRate, e.ByteBurst = c.ByteRate, c.ByteBurst
	if e.ByteBurst == 0 {
		e.ByteBurst = max(int(usualBurst*c.ByteRate), 2*c.MaxPayload)
	}
	if e.MaxAttachments = c.MaxAttachments; c.MaxAttachments == 0 {
		e.MaxAttachments = -1
	}
	e.AttachmentTimeout = c.AttachmentTimeout
}

// unused names limits that are set and mean nothing, because what they belong to is off.
func (c *Config) unused() (names []string) {
	for _, l := range []struct {
		name string
		set  bool
		rate float64
	}{
		{"CONNECT_BURST", c.ConnectBurst > 0, c.ConnectRate},
		{"CONNECT_BURST_PER_IP", c.ConnectBurstPerIP > 0, c.connectRatePerIP()},
		{"PACKET_BURST", c.PacketBurst > 0, c.PacketRate},
		{"BYTE_BURST", c.ByteBurst > 0, c.ByteRate},
	} {
		if l.set && l.rate == 0 {
			names = append(names, l.name)
		}
	}
	return names
}

func parseFloat(v string) (any, error) {
	f, err := strconv.ParseFloat(v, 64)
	if err != nil {
		return nil, fmt.Errorf("%q is not a number", v)
	}
	return f, nil
}
