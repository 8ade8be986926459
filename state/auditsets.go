package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

// auditChunks looks at the members of the chunks.
func (p *Presence) auditChunks(ctx context.Context, c *clients, step []auditChunk, incarnation string) error {
	p.mu.Lock()
	l := p.ledger
	step = slices.DeleteFunc(step, func(c auditChunk) bool {
		return c.set.room != "" && l.rooms[c.set.room] != c.set // forgotten meanwhile, and perhaps made anew
	})
	var listed []*presenceSet // that must be on the list of our rooms
	for i := range step {
		chunk := &step[i]
		chunk.all = chunk.users()
		chunk.members = slices.DeleteFunc(chunk.members, func(m *member) bool {
			return !(m.desired && m.stored == held && m.life == l.life())
		})
		if chunk.first && p.audit.deep && chunk.set.room != "" && chunk.set.indexed(l.life()) {
			listed = append(listed, chunk.set)
		}
	}
	p.mu.Unlock()
	commands := p.auditCommands(c, step, incarnation)
	if len(listed) > 0 {
		commands = append(commands, c.cmd.B().Smismember().Key(indexKey(incarnation)).Member(names(listed)...).Build())
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
	if len(listed) > 0 {
		p.auditListed(listed, answers[0])
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

// auditCommands are the reads of each chunk, in the order in which auditSet takes them.
func (p *Presence) auditCommands(c *clients, step []auditChunk, incarnation string) (commands rueidis.Commands) {
	b := c.cmd.B
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
	return commands
}

func (c *auditChunk) users() []string {
	users := make([]string, len(c.members))
	for i, m := range c.members {
		users[i] = m.user
	}
	return users
}

// names are the rooms of sets.
func names(sets []*presenceSet) []string {
	rooms := make([]string, len(sets))
	for i, set := range sets {
		rooms[i] = set.room
	}
	return rooms
}

// auditListed sees that rooms are on the list in Redis.
func (p *Presence) auditListed(sets []*presenceSet, answer rueidis.RedisResult) {
	there, err := answer.AsIntSlice()
	if err != nil || len(there) != len(sets) {
		p.audit.refuse(answered("SMISMEMBER", len(there), len(sets), err))
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, set := range sets {
		if there[i] == 0 && set.index.stored == held {
			set.index.stored = unknown // written down again before anything else
			p.ledger.touchIndex(set)
			p.drift(metrics.DriftMissing, 1)
		}
	}
}

// auditSet compares one chunk with its answers and returns the other answers.
func (p *Presence) auditSet(ctx context.Context, c *clients, chunk auditChunk, incarnation string, answers []rueidis.RedisResult) ([]rueidis.RedisResult, error) {
	take := func() (r rueidis.RedisResult) {
		r, answers = answers[0], answers[1:]
		return r
	}
	if len(chunk.members) > 0 {
		p.auditMembers(chunk, take)
	}
	if chunk.first && p.audit.deep {
		if err := p.auditHolds(ctx, c, chunk, incarnation, take); err != nil {
			return nil, err
		}
	}
	if chunk.first && chunk.set.room != "" {
		fields, err := take().AsStrSlice()
		if at, err := parsePosition(fields, err, c.run); err == nil {
			p.updates.watermark(chunk.set.room, at, time.Now())
		}
	}
	return answers, nil
}

// auditMembers sees that the chunk's users are in the public set and, in a deep
// pass, held by us.
func (p *Presence) auditMembers(chunk auditChunk, take func() rueidis.RedisResult) {
	n := len(chunk.members)
	there, err := take().AsIntSlice()
	if err != nil || len(there) != n {
		err = answered("SMISMEMBER", len(there), n, err)
	}
	var held []rueidis.RedisMessage
	if p.audit.deep {
		var errHolds error
		if held, errHolds = take().ToArray(); errHolds != nil || len(held) != n {
			err = errors.Join(err, answered("HMGET", len(held), n, errHolds))
		}
	}
	if err != nil {
		p.audit.refuse(err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, m := range chunk.members {
		if there[i] == 0 || held != nil && held[i].IsNil() {
			p.ledger.lost(m)
			p.drift(metrics.DriftMissing, 1)
		}
	}
}

// whole reports whether the chunk is all of its set.
func (c *auditChunk) whole() bool { return c.first && len(c.all) < batchMembers }

// auditHolds finds members that Redis has as held by us and we do not hold. How
// many there are says nothing: one may be missing for each that is too much.
func (p *Presence) auditHolds(ctx context.Context, c *clients, chunk auditChunk, incarnation string, take func() rueidis.RedisResult) error {
	if chunk.whole() {
		users, err := take().AsStrSlice()
		if err != nil {
			p.audit.refuse(fmt.Errorf("HKEYS: %w", err))
			return nil
		}
		return p.auditExtra(ctx, c, chunk.set, users, incarnation)
	}
	keys, _ := setCall(chunk.set.room, incarnation, epochs{}, "", nil)
	for cursor := uint64(0); ; {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		page, err := c.cmd.Do(call, c.cmd.B().Hscan().Key(keys[1]).Cursor(cursor).Count(scanPage).Build()).AsScanEntry()
		cancel()
		if lostConnection(err) {
			return fmt.Errorf("HSCAN: %w", err)
		}
		if err != nil {
			p.audit.refuse(fmt.Errorf("HSCAN: %w", err))
			return nil
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
	if _, err := p.do(ctx, c, c.cmd.B().Expire().Key(key).Seconds(int64(indexTTL.Seconds())).Build()); lostConnection(err) {
		return err
	}
	for cursor := uint64(0); p.audit.deep; {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		page, err := c.cmd.Do(call, c.cmd.B().Sscan().Key(key).Cursor(cursor).Count(scanPage).Build()).AsScanEntry()
		cancel()
		if lostConnection(err) {
			return fmt.Errorf("SSCAN: %w", err)
		}
		if err != nil {
			p.audit.refuse(fmt.Errorf("SSCAN: %w", err))
			return nil
		}
		p.mu.Lock()
		for _, room := range page.Elements {
			if p.ledger.rooms[room] == nil {
				set := p.ledger.room(room)
				set.index.desired, set.index.stored, set.index.life = true, held, p.ledger.life()
				p.audit.chunks = append(p.audit.chunks, auditChunk{set: set, first: true})
			}
		}
		p.mu.Unlock()
		if cursor = page.Cursor; cursor == 0 {
			break
		}
	}
	return nil
}
