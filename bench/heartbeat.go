//go:build linux

package main

import (
	"context"
	"fmt"

	"github.com/stellara/edge/bench/report"
)

// heartbeat counts what one idle node sends to Redis. All its connections are in their rooms and silent,
// but for the pings of the transport, which Redis does not see.
func (m *measurement) heartbeat(ctx context.Context) error {
	// A client that is open pings Redis from time to time, which would be counted.
	prefix := m.presence.prefix
	m.presence.close()
	m.presence = nil
	m.sampler.mark("settling")
	m.say("settling for %v, then counting for %v", m.cfg.warmup, m.cfg.duration)
	if err := pause(ctx, m.cfg.warmup); err != nil {
		return err
	}
	m.sampler.mark("counting")
	from, err := m.count(ctx)
	if err != nil {
		return err
	}
	if err := pause(ctx, m.cfg.duration); err != nil {
		return err
	}
	to, err := m.count(ctx)
	if err != nil {
		return err
	}
	m.sys.Traffic = trafficBetween(from, to)
	m.sys.Traffic.Conns, m.sys.Traffic.Rooms = m.sys.Connect.Done, m.cfg.rooms
	m.say("%.2f heartbeats/s, %.1f commands/s, %.0f bytes/s", m.sys.Traffic.Heartbeats(), m.sys.Traffic.Calls(), m.sys.Traffic.InputBytes)
	m.presence, err = newPresenceReader(m.stack.redisURL, prefix)
	return err
}

// counts is what Redis and the node have counted up to a moment.
type counts struct {
	at         snapshot
	commands   map[string]int64
	input      int64            // bytes that Redis received
	output     int64            // and sent
	operations map[string]int64 // presence operations of the node, by op
}

func (m *measurement) count(ctx context.Context) (counts, error) {
	c := counts{at: m.stack.snapshot(m.clock), operations: map[string]int64{}}
	info, err := redisInfo(ctx, m.stack.redisURL)
	if err != nil {
		return c, err
	}
	c.commands = commandCalls(info)
	if c.input, err = infoNumber(info, "total_net_input_bytes"); err != nil {
		return c, err
	}
	if c.output, err = infoNumber(info, "total_net_output_bytes"); err != nil {
		return c, err
	}
	for _, admin := range m.stack.admin {
		text, err := scrape(ctx, admin)
		if err != nil {
			return c, err
		}
		for op, n := range labelled(text, "edge_presence_operation_seconds_count", "op") {
			c.operations[op] += int64(n)
		}
	}
	if len(c.operations) == 0 {
		return c, fmt.Errorf("the nodes have no metric edge_presence_operation_seconds_count{op}")
	}
	return c, nil
}

// trafficBetween returns what was counted from one moment to the other, per second.
func trafficBetween(from, to counts) *report.Traffic {
	t := &report.Traffic{
		Seconds:  float64(to.at.at-from.at.at) / 1e9,
		Commands: map[string]float64{}, Operations: map[string]float64{},
	}
	each := func(sum map[string]float64, a, b map[string]int64) {
		for name, n := range b {
			sum[name] = float64(n-a[name]) / t.Seconds
		}
	}
	each(t.Commands, from.commands, to.commands)
	each(t.Operations, from.operations, to.operations)
	t.InputBytes, t.OutputBytes = float64(to.input-from.input)/t.Seconds, float64(to.output-from.output)/t.Seconds
	used := to.at.cpu.Sub(from.at.cpu)
	t.CPU = report.CPU{Nodes: used.Nodes / t.Seconds, Redis: used.Redis / t.Seconds, Client: used.Client / t.Seconds}
	return t
}
