package main

import (
	"fmt"
	"strconv"

	"github.com/stellara/edge/engine"
)

// maxPending is the largest MAX_PENDING.
const maxPending = 1_000_000

// checkLimits is about how clients connect.
func (c *Config) checkLimits(p *problems) {
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
		{"CONNECT_RATE_PER_IP", c.ConnectRatePerIP, "CONNECT_BURST_PER_IP", c.ConnectBurstPerIP},
	} {
		if !p.has(r.name) && r.v != 0 && !(r.v >= engine.MinConnectRate && r.v <= engine.MaxConnectRate) { // NaN neither
			p.add(r.name, "%v is neither 0 nor between %v and %v per second", r.v, engine.MinConnectRate, engine.MaxConnectRate)
		}
		if !p.has(r.burst) && (r.n < 0 || r.n > engine.MaxConnectBurst) {
			p.add(r.burst, "%d is not between 0 (a second's worth) and %d", r.n, engine.MaxConnectBurst)
		}
	}
}

// unused names limits that are set and mean nothing, because what they belong to is off.
func (c *Config) unused() (names []string) {
	if c.ConnectBurst > 0 && c.ConnectRate == 0 {
		names = append(names, "CONNECT_BURST")
	}
	if c.ConnectBurstPerIP > 0 && c.ConnectRatePerIP == 0 {
		names = append(names, "CONNECT_BURST_PER_IP")
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
