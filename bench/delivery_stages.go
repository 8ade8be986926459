//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/stellara/edge/bench/delivery"
)

// Sizes of the groups of clients that a phase has of its own, and of what is published for them.
const (
	groupClients = 20
	groupRooms   = 2
	groupBatch   = 5
	silentRooms  = 5

	// groupQuiet is how long after its last message a room counts as quiet: whatever is under way has
	// arrived, so that who joins then must get nothing of it.
	groupQuiet = 2 * time.Second
)

// groupStream is the number of a group's first stream; the crowd's are smaller.
const groupStream = 1_000_000

// group is clients of a phase's own that do the same all together, and the publishers of their rooms,
// which publish only when told.
type group struct {
	d     *deliveryHarm
	crowd *delivery.Crowd
	pubs  []*delivery.Publisher
	back  int // returns that must have been by now
	out   *delivery.Group
}

// newGroup connects clients to a node, -1 for any, and has them in their rooms.
func (d *deliveryHarm) newGroup(ctx context.Context, clients, rooms, home int, of func(client int) []int) (*group, error) {
	g := &group{d: d, out: &delivery.Group{Clients: clients}}
	d.result.Group = g.out
	name := func(room int) string { return fmt.Sprintf("%s-%d", d.result.Name, room) }
	for room := range rooms {
		g.pubs = append(g.pubs, delivery.NewPublisher(d.r.fleet, name(room), groupStream+room, d.r.sys.IDs))
	}
	pub := func(stream int) *delivery.Publisher { return g.pubs[stream-groupStream] }
	g.crowd = delivery.NewCrowd(d.r.fleet, delivery.Plan{
		Prefix: d.result.Name + "-client", Clients: clients, Home: home, Dialing: d.r.cfg.dialing,
		Rooms: of, Room: name, Streams: func(room int) []int { return []int{groupStream + room} },
		// They join only while their rooms are quiet.
		Floor: func(stream int) uint64 { return pub(stream).Begun() },
		Due:   func(stream int) uint64 { return pub(stream).Begun() + 1 },
		Read:  delivery.Numbered,
	})
	return g, d.r.await(ctx, "the phase's own clients to be there", func() bool { return g.crowd.Absent() == 0 })
}

// publish sends some messages to a room, and returns when they are acknowledged.
func (g *group) publish(ctx context.Context, room, n int) error {
	ctx, cancel := context.WithTimeout(ctx, g.d.r.cfg.chaos.patience)
	defer cancel()
	for range n {
		if err := g.pubs[room].Publish(ctx); err != nil {
			return fmt.Errorf("publishing to the phase's own clients: %w", err)
		}
	}
	return nil
}

// received waits until all clients have the last messages of their rooms; that they do not is found by
// the check.
func (g *group) received(ctx context.Context) error {
	_, err := g.d.r.hopeFor(ctx, func() bool { return g.crowd.Absent() == 0 && g.crowd.Lacking(g.last()) == 0 })
	return err
}

// dropAll drops everybody, who return after a while. Call returned next.
func (g *group) dropAll() {
	g.back += g.out.Clients
	g.crowd.DropAll(g.d.r.cfg.delivery.away)
}

// returned waits until everybody has come back as often as they were dropped, and is in the rooms.
func (g *group) returned(ctx context.Context) error {
	return g.d.r.await(ctx, "the phase's own clients to come back", func() bool {
		return len(g.crowd.Returns(g.d.number)) >= g.back && g.crowd.Absent() == 0
	})
}

func (g *group) last() map[int]uint64 {
	last := map[int]uint64{}
	for room, p := range g.pubs {
		last[groupStream+room] = p.Acked()
	}
	return last
}

// finish waits for what may come too much, checks, and lets everybody go.
func (g *group) finish(ctx context.Context) error {
	if err := g.received(ctx); err != nil {
		return err
	}
	if err := pause(ctx, groupQuiet); err != nil {
		return err
	}
	g.out.Returns = delivery.TallyOf(g.crowd.Returns(g.d.number), time.Time{})
	g.out.Findings = delivery.Check(g.crowd.Histories(), g.last(), g.d.r.told())
	g.out.Events = g.crowd.TakeEvents()
	return nil
}

// close ends the group's connections.
func (g *group) close() {
	if g == nil {
		return
	}
	g.crowd.Close()
	for _, p := range g.pubs {
		p.Close()
	}
}

// steps does one thing after the other until one fails.
func steps(ctx context.Context, all ...func(context.Context) error) error {
	for _, step := range all {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// some publishes a few messages to a room.
func (g *group) some(room int) func(context.Context) error {
	return func(ctx context.Context) error { return g.publish(ctx, room, groupBatch) }
}

func quiet(ctx context.Context) error { return pause(ctx, groupQuiet) }

// lateJoin has half of the clients join a room in which others already got messages. They are dropped, and
// come back for what was published meanwhile, but for nothing from before they joined.
func (d *deliveryHarm) lateJoin(ctx context.Context) error {
	const lobby, hall = 0, 1
	g, err := d.newGroup(ctx, groupClients, groupRooms, -1, func(client int) []int {
		if client%2 == 0 {
			return []int{lobby, hall}
		}
		return []int{lobby}
	})
	defer g.close()
	if err != nil {
		return err
	}
	g.out.WantRecovered = groupClients
	join := func(ctx context.Context) error {
		g.crowd.Enter(hall)
		return d.r.await(ctx, "the late ones to join", func() bool { return g.crowd.Absent() == 0 })
	}
	drop := func(context.Context) error { g.dropAll(); return nil }
	return steps(ctx, g.some(hall), g.some(lobby), g.received, quiet, join, g.some(hall), g.received,
		drop, g.some(hall), g.some(lobby), g.returned, g.some(hall), g.finish)
}

// wrongPID has clients ask for sessions that do not exist, and then, with and without messages between, for
// those that they got instead. Their offsets may be of the old sessions.
func (d *deliveryHarm) wrongPID(ctx context.Context) error {
	g, err := d.newGroup(ctx, groupClients, 1, -1, func(int) []int { return []int{0} })
	defer g.close()
	if err != nil {
		return err
	}
	g.out.WantRecovered, g.out.WantTold = 2*groupClients, 2*groupClients
	some := g.some(0)
	drop := func(context.Context) error { g.dropAll(); return nil }
	spoil := func(context.Context) error { g.crowd.Spoil(); return nil }
	return steps(ctx, some, g.received,
		spoil, drop, some, g.returned, some, g.received, drop, some, g.returned, g.received,
		spoil, drop, some, g.returned, drop, some, g.returned, some, g.finish)
}

// silence leaves clients alone for a long time, kills their node, publishes while they are away, and lets
// them come back.
func (d *deliveryHarm) silence(ctx context.Context) error {
	g, err := d.newGroup(ctx, d.r.cfg.delivery.silent, silentRooms, d.node, func(client int) []int { return []int{client % silentRooms} })
	defer g.close()
	if err != nil {
		return err
	}
	g.out.WantRecovered = g.out.Clients
	d.say("%d clients on %s are silent for %v", g.out.Clients, d.target().name, d.r.cfg.delivery.silence)
	if err := pause(ctx, d.r.cfg.delivery.silence); err != nil {
		return err
	}
	g.crowd.Hold()
	d.killNode()
	if err := d.r.await(ctx, "the silent clients to lose their connections", func() bool { return g.crowd.Connected() == 0 }); err != nil {
		return err
	}
	for room := range g.pubs {
		if err := g.publish(ctx, room, groupBatch); err != nil {
			return err
		}
	}
	g.back += g.out.Clients
	g.crowd.Release()
	if err := g.returned(ctx); err != nil {
		return err
	}
	for room := range g.pubs {
		if err := g.publish(ctx, room, groupBatch); err != nil {
			return err
		}
	}
	d.over = time.Time{} // the kill was long ago
	d.mend = func(ctx context.Context) error { return d.startNode(ctx, d.node) }
	return g.finish(ctx)
}
