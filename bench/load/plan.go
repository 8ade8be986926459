//go:build linux

package load

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Plan says what the connections of a benchmark are and which of them a process owns. All
// processes get the same plan but for First and Last.
type Plan struct {
	Targets []string // host:port of each node, numeric
	Conns   int      // connections in all processes together
	Rooms   int      // shared rooms; 0 for connections that join nothing
	Each    int      // rooms of every connection, 0 for one; connections of several rooms only listen
	Senders int      // members of each room that send; 0 if Each is more than 1
	Payload int      // bytes of a message's argument
	Prefix  string   // before user ids and room names
	Browser bool     // whether to send the headers of a browser
	Dialing int      // handshakes (or joins) under way at once in one process
	Poll    string   // host:port of the node where sessions begin with long-polling, to be upgraded at Targets; empty: WebSocket from the start
	Ask     bool     // whether a connection counts as online only when its first event has been acknowledged
	Slow    int      // connections that stop reading for a part of a step, none of which sends
	First   int      // first connection of this process
	Last    int      // one after the last connection of this process
}

// Validate reports the first field that makes no sense.
func (p *Plan) Validate() error {
	switch {
	case len(p.Targets) == 0:
		return errors.New("load: no target")
	case p.Conns < 1:
		return fmt.Errorf("load: %d connections", p.Conns)
	case p.Rooms < 0 || p.Rooms > p.Conns:
		return fmt.Errorf("load: %d rooms for %d connections", p.Rooms, p.Conns)
	case p.Payload < stampSize:
		return fmt.Errorf("load: payload of %d bytes is below the %d of a stamp", p.Payload, stampSize)
	case p.Dialing < 1:
		return fmt.Errorf("load: %d handshakes at once", p.Dialing)
	case p.First < 0 || p.Last > p.Conns || p.First >= p.Last:
		return fmt.Errorf("load: connections %d to %d of %d", p.First, p.Last, p.Conns)
	case p.Each < 0 || p.Each > max(p.Rooms, 1):
		return fmt.Errorf("load: each connection in %d of %d rooms", p.Each, p.Rooms)
	case p.Each > 1 && p.Senders != 0:
		return fmt.Errorf("load: %d senders in rooms whose members are in %d rooms each, which only listen", p.Senders, p.Each)
	case p.Each <= 1 && p.Rooms > 0 && (p.Senders < 1 || p.Senders > p.Conns/p.Rooms):
		return fmt.Errorf("load: %d senders in rooms of %d", p.Senders, p.Conns/p.Rooms)
	case p.Slow < 0 || p.Slow > 0 && (p.Rooms == 0 || p.Each > 1 || p.Slow > p.Conns-p.Rooms*p.Senders):
		return fmt.Errorf("load: %d slow readers of %d connections in %d rooms, of which those that send cannot be slow", p.Slow, p.Conns, p.Rooms)
	}
	targets := p.Targets
	if p.Poll != "" {
		targets = append(slices.Clone(targets), p.Poll)
	}
	for _, t := range targets {
		if _, err := netip.ParseAddrPort(t); err != nil {
			return fmt.Errorf("load: target %q: %w", t, err)
		}
	}
	return nil
}

// User returns the user id of connection i; every connection has its own user.
func (p *Plan) User(i int) string { return fmt.Sprintf("%su%d", p.Prefix, i) }

// RoomName returns the name of room r.
func (p *Plan) RoomName(r int) string { return fmt.Sprintf("%sr%d", p.Prefix, r) }

// Room returns the room of connection i that its messages are for, and its first.
func (p *Plan) Room(i int) int {
	if p.Each > 1 {
		return i * p.Rooms / p.Conns
	}
	return i % p.Rooms
}

// RoomsOf returns all rooms of connection i, none if there are none. With several rooms each, neighbours
// have the same ones, so that the presence updates of a room come while it fills, and are merged, rather
// than all the time that everything takes to join.
func (p *Plan) RoomsOf(i int) []int {
	if p.Rooms == 0 {
		return nil
	}
	rooms := make([]int, max(p.Each, 1))
	for k := range rooms {
		rooms[k] = (p.Room(i) + k) % p.Rooms
	}
	return rooms
}

// Target returns the index of connection i's node: rooms and nodes are dealt so that every room has
// members on every node, whatever divisors their numbers have in common.
func (p *Plan) Target(i int) int {
	if p.Rooms == 0 || p.Each > 1 {
		return i % len(p.Targets)
	}
	return (i/p.Rooms + i%p.Rooms) % len(p.Targets)
}

// Members returns the number of connections in room r, of one room each.
func (p *Plan) Members(r int) int { return (p.Conns - r + p.Rooms - 1) / p.Rooms }

// SenderConn returns the connection of a sender, by its number room*Senders+j. The senders of a room
// are spread over its members, and so over nodes and processes.
func (p *Plan) SenderConn(sender int) int {
	room, j := sender/p.Senders, sender%p.Senders
	return room + j*(p.Conns/p.Rooms/p.Senders)*p.Rooms
}

// Turn returns the sender of the k-th message of a run: rooms take turns, and the senders of a room
// take turns.
func (p *Plan) Turn(k int) (sender int) {
	return k%p.Rooms*p.Senders + k/p.Rooms%p.Senders
}

// SlowConns returns which connections stop reading: as many as the plan says, dealt to the rooms in turn and spread
// over the members of each.
func (p *Plan) SlowConns() []bool {
	slow := make([]bool, p.Conns)
	if p.Slow == 0 {
		return slow
	}
	taken := make([]bool, p.Conns)
	for sender := range p.Rooms * p.Senders {
		taken[p.SenderConn(sender)] = true
	}
	each := (p.Slow + p.Rooms - 1) / p.Rooms
	for k := range p.Slow {
		at := p.free(taken, k%p.Rooms, k/p.Rooms*p.Members(k%p.Rooms)/each)
		taken[at], slow[at] = true, true
	}
	return slow
}

// free returns a connection that is not taken: the given member of a room, or the next one, or one of the next room.
func (p *Plan) free(taken []bool, room, member int) int {
	for ; ; room = (room + 1) % p.Rooms {
		for m := range p.Members(room) {
			if i := room + (member+m)%p.Members(room)*p.Rooms; !taken[i] {
				return i
			}
		}
	}
}
