package state

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

// auditChunks looks at the members of the chunks.
func (p *Presence) auditChunks(ctx context.Context, c *clients, step []auditChunk, incarnation string) error {
	b := c.cmd.B
	var commands rueidis.Commands
	p.mu.Lock()
	for i := range step {
		chunk := &step[i]
		chunk.all = chunk.users()
		chunk.members = slices.DeleteFunc(chunk.members, func(m *member) bool {
			return !(m.desired && m.stored == held && m.life == p.ledger.life())
		})
	}
	p.mu.Unlock()
	for _, chunk := range step {
		key := onlineKey
		if chunk.set.room != "" {
			key = roomKey(chunk.set.room)
		}
		aside := "{" + key + "}:"
		if users := chunk.users(); len(users) > 0 {
			commands = append(commands, b().Smismember().Key(key).Member(users...).Build())
			if p.audit.deep {
				commands = append(commands, b().Hmget().Key(aside+"i:"+incarnation).Field(users...).Build())
			}
		}
		if chunk.whole() && p.audit.deep {
			commands = append(commands, b().Hkeys().Key(aside+"i:"+incarnation).Build())
		}
		if chunk.first && chunk.set.room != "" {
			commands = append(commands, b().Hmget().Key(aside+"m").Field("e", "s", "r").Build())
		}
	}
	answers, err := p.ask(ctx, c, metrics.PresenceAudit, commands)
	if err != nil {
		return err
	}
	for _, chunk := range step {
		if answers, err = p.auditSet(ctx, c, chunk, incarnation, answers); err != nil {
			return err
		}
	}
	for _, chunk := range step {
		if chunk.set.room == "" {
			if err := p.auditSockets(ctx, c, chunk, incarnation); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *auditChunk) users() []string {
	users := make([]string, len(c.members))
	for i, m := range c.members {
		users[i] = m.user
	}
	return users
}

// auditSet compares one chunk with its answers and returns the other answers.
func (p *Presence) auditSet(ctx context.Context, c *clients, chunk auditChunk, incarnation string, answers []rueidis.RedisMessage) ([]rueidis.RedisMessage, error) {
	take := func() (m rueidis.RedisMessage) {
		m, answers = answers[0], answers[1:]
		return m
	}
	if n := len(chunk.members); n > 0 {
		public := take()
		there, err := public.AsIntSlice()
		if err != nil || len(there) != n {
			return nil, fmt.Errorf("SMISMEMBER answered %d of %d: %w", len(there), n, err)
		}
		lost := make([]bool, n)
		for i := range there {
			lost[i] = there[i] == 0
		}
		if p.audit.deep {
			holds := take()
			fields, err := holds.ToArray()
			if err != nil || len(fields) != n {
				return nil, fmt.Errorf("HMGET answered %d of %d: %w", len(fields), n, err)
			}
			for i := range fields {
				lost[i] = lost[i] || fields[i].IsNil()
			}
		}
		p.mu.Lock()
		for i, m := range chunk.members {
			if lost[i] && m.stored == held {
				p.ledger.lost(m)
				p.drift(metrics.DriftMissing, 1)
			}
		}
		p.mu.Unlock()
	}
	if chunk.first && p.audit.deep {
		if err := p.auditHolds(ctx, c, chunk, incarnation, take); err != nil {
			return nil, err
		}
	}
	if chunk.first && chunk.set.room != "" {
		meta := take()
		fields, err := meta.AsStrSlice()
		if at, err := parsePosition(fields, err, c.run); err == nil {
			p.updates.watermark(chunk.set.room, at, time.Now())
		}
	}
	return answers, nil
}

// whole reports whether the chunk is all of its set.
func (c *auditChunk) whole() bool { return c.first && len(c.all) < batchMembers }

// auditHolds finds members that Redis has as held by us and we do not hold. How
// many there are says nothing: one may be missing for each that is too much.
func (p *Presence) auditHolds(ctx context.Context, c *clients, chunk auditChunk, incarnation string, take func() rueidis.RedisMessage) error {
	if chunk.whole() {
		holds := take()
		users, err := holds.AsStrSlice()
		if err != nil {
			return fmt.Errorf("HKEYS: %w", err)
		}
		return p.auditExtra(ctx, c, chunk.set, users, incarnation)
	}
	keys, _ := setCall(metrics.PresenceHold, chunk.set.room, incarnation, epochs{}, 0, nil)
	for cursor := uint64(0); ; {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		page, err := c.cmd.Do(call, c.cmd.B().Hscan().Key(keys[1]).Cursor(cursor).Count(scanPage).Build()).AsScanEntry()
		cancel()
		if err != nil {
			return fmt.Errorf("HSCAN: %w", err)
		}
		users := make([]string, 0, len(page.Elements)/2)
		for i := 0; i < len(page.Elements); i += 2 {
			users = append(users, page.Elements[i])
		}
		if err := p.auditExtra(ctx, c, chunk.set, users, incarnation); err != nil {
			return err
		}
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
	}
}

// auditExtra releases those of the users that Redis has as held by us and we do not hold.
func (p *Presence) auditExtra(ctx context.Context, c *clients, set *presenceSet, users []string, incarnation string) error {
	var unknown []string
	p.mu.Lock()
	for _, user := range users {
		if m := set.members[user]; m == nil || m.stored == absent {
			unknown = append(unknown, user)
		}
	}
	p.mu.Unlock()
	if len(unknown) == 0 {
		return nil
	}
	if set.room == "" {
		// Their sockets first: a user goes offline after the last of them.
		if err := p.auditOwners(ctx, c, unknown, incarnation); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, user := range unknown {
		if p.ledger.extraMember(set, user) {
			p.drift(metrics.DriftExtra, 1)
		}
	}
	return nil
}

// auditIndex keeps the list of our rooms alive and, in a deep pass, looks for
// rooms on it that we know nothing of: Redis went back to a time when we had
// members there.
func (p *Presence) auditIndex(ctx context.Context, c *clients, incarnation string) error {
	key := indexKey(incarnation)
	commands := rueidis.Commands{c.cmd.B().Expire().Key(key).Seconds(int64(indexTTL.Seconds())).Build()}
	if p.audit.deep {
		commands = append(commands, c.cmd.B().Smembers().Key(key).Build())
	}
	answers, err := p.ask(ctx, c, metrics.PresenceIndex, commands)
	if err != nil || !p.audit.deep {
		return err
	}
	rooms, err := answers[1].AsStrSlice()
	if err != nil {
		return fmt.Errorf("SMEMBERS: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	listed := make(map[string]bool, len(rooms))
	for _, room := range rooms {
		listed[room] = true
		if p.ledger.rooms[room] == nil {
			set := p.ledger.room(room)
			set.index.desired, set.index.stored, set.index.life = true, held, p.ledger.life()
			p.audit.sets = append(p.audit.sets, set)
		}
	}
	for room, set := range p.ledger.rooms {
		if set.index.stored == held && !listed[room] {
			set.index.stored = unknown // written down again before anything else
			p.ledger.touchIndex(set)
			p.drift(metrics.DriftMissing, 1)
		}
	}
	return nil
}
