package state

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

// auditSockets looks at the sockets of the chunk's users: whether each user has
// an active socket, and one with an owner; in a deep pass whether we own ours.
func (p *Presence) auditSockets(ctx context.Context, c *clients, chunk auditChunk, incarnation string) error {
	if p.audit.deep {
		if err := p.auditOwners(ctx, c, chunk.all, incarnation); err != nil {
			return err
		}
	}
	users := chunk.users()
	if len(users) == 0 {
		return nil
	}
	keys := make([]string, len(users))
	for i, user := range users {
		keys[i] = socketKey(user)
	}
	answers, err := p.ask(ctx, c, metrics.PresenceAudit, rueidis.Commands{c.cmd.B().Mget().Key(keys...).Build()})
	if err != nil {
		return err
	}
	active, err := answers[0].ToArray()
	if err != nil || len(active) != len(users) {
		p.audit.refuse(answered("MGET", len(active), len(users), err))
		return nil
	}
	var elsewhere []int // whose active socket is not ours
	p.mu.Lock()
	for i, m := range chunk.members {
		id, err := active[i].ToString()
		if err != nil && !rueidis.IsRedisNil(err) {
			continue // of another type: the scripts say so
		}
		switch s := p.ledger.sockets[id]; {
		case id == "":
			p.reattach(m)
		case s == nil || s.user != m:
			elsewhere = append(elsewhere, i)
		}
	}
	p.mu.Unlock()
	return p.auditForeign(ctx, c, chunk, active, elsewhere)
}

// reattach stores a user's newest socket again, if it was stored; the caller holds mu.
func (p *Presence) reattach(m *member) {
	for i := len(m.sockets) - 1; i >= 0; i-- {
		if s := m.sockets[i]; s.desired && s.stored == held {
			p.ledger.lostSocket(s)
			p.drift(metrics.DriftMissing, 1)
			return
		}
	}
}

// auditForeign sees that an active socket that is not ours has an owner. One
// that has none was written by somebody else, and may be long gone.
func (p *Presence) auditForeign(ctx context.Context, c *clients, chunk auditChunk, active []rueidis.RedisMessage, which []int) error {
	var commands rueidis.Commands
	for _, i := range which {
		id, _ := active[i].ToString() // read before
		commands = append(commands, c.cmd.B().Hexists().Key("{"+socketKey(chunk.members[i].user)+"}:o").Field(id).Build())
	}
	answers, err := p.ask(ctx, c, metrics.PresenceAudit, commands)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, i := range which {
		if owned, err := answers[k].AsInt64(); err == nil && owned == 0 {
			p.reattach(chunk.members[i])
		}
	}
	return nil
}

// auditOwners compares the owners of the users' sockets with what we have.
func (p *Presence) auditOwners(ctx context.Context, c *clients, users []string, incarnation string) error {
	var commands rueidis.Commands
	for _, user := range users {
		commands = append(commands, c.cmd.B().Hgetall().Key("{"+socketKey(user)+"}:o").Build())
	}
	answers, err := p.ask(ctx, c, metrics.PresenceAudit, commands)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, user := range users {
		owners, err := answers[i].AsStrMap()
		if err != nil {
			p.audit.refuse(fmt.Errorf("HGETALL: %w", err))
			continue
		}
		if u := p.ledger.online.members[user]; u != nil {
			for _, s := range u.sockets {
				if s.desired && s.stored == held && !ownedBy(owners[s.id], incarnation, s.generation) {
					p.ledger.lostSocket(s)
					p.drift(metrics.DriftMissing, 1)
				}
			}
		}
		for id, record := range owners {
			owner, generation, err := parseOwner(record)
			if err == nil && owner == incarnation && p.ledger.extraSocket(user, id, generation) {
				p.drift(metrics.DriftExtra, 1)
			}
		}
	}
	return nil
}

// parseOwner takes an owner apart.
func parseOwner(record string) (incarnation string, generation uint64, err error) {
	i := strings.LastIndexByte(record, '.')
	if i < 0 {
		return "", 0, errors.New("state: owner without generation")
	}
	generation, err = strconv.ParseUint(record[i+1:], 10, 64)
	return record[:i], generation, err
}

// ownedBy reports whether a record says that the socket is ours, or that it has
// moved on, which is not ours to undo.
func ownedBy(record, incarnation string, generation uint64) bool {
	owner, reached, err := parseOwner(record)
	return err == nil && (owner == incarnation && reached == generation || reached > generation)
}
