//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
)

// heartbeatFlags shape the scenario heartbeat: the same idle node with few and with many connections.
type heartbeatFlags struct {
	sizes   sizes
	members int
}

func (h *heartbeatFlags) register(fs *flag.FlagSet) {
	h.sizes = sizes{1000, 15_000}
	fs.Var(&h.sizes, "sizes", "heartbeat: numbers of `connections` to compare, smaller first")
	fs.IntVar(&h.members, "members", 1, "heartbeat: connections in each room")
}

func (h *heartbeatFlags) validate(c *config) error {
	if c.scenario != scenarioHeartbeat {
		return nil
	}
	switch {
	case len(c.targets) > 0 || c.system != systemEdge:
		return errors.New("-target, -system: heartbeat needs edge nodes of its own, as it reads their metrics")
	case len(h.sizes) != 2 || h.sizes[0] < 1 || h.sizes[1] <= h.sizes[0]:
		return fmt.Errorf("-sizes: %v, need two numbers of connections, the smaller first", &h.sizes)
	case h.members < 1 || h.members > h.sizes[0]:
		return fmt.Errorf("-members: %d connections in a room, can be 1 to %d", h.members, h.sizes[0])
	}
	return nil
}

// sized is the configuration of the run with n connections.
func (h *heartbeatFlags) sized(c config, n int) config {
	c.conns, c.rooms = n, (n+h.members-1)/h.members
	return c
}

// sizes is a flag of numbers with commas.
type sizes []int

func (s *sizes) String() string {
	text := make([]string, len(*s))
	for i, n := range *s {
		text[i] = strconv.Itoa(n)
	}
	return strings.Join(text, ",")
}

func (s *sizes) Set(text string) error {
	*s = nil
	for _, part := range strings.Split(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil {
			return fmt.Errorf("%q is not a whole number", part)
		}
		*s = append(*s, n)
	}
	return nil
}
