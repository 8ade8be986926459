package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// grant is what a token says besides its user: until when it holds, and what may be
// done with rooms. It is never changed; nil is a grant without limits.
type grant struct {
	Expires int64    `json:"expires,omitempty"` // the claim exp, in Unix milliseconds; 0: never
	Join    patterns `json:"join,omitzero"`
	Publish patterns `json:"publish,omitzero"`

	returned *returned // of a socket that was recovered, until its client was told
}

// returned is what became of a recovered socket's rooms by its new token.
type returned struct {
	before *grant
	left   []string
}

// newGrant returns nil if nothing is limited.
func newGrant(expires int64, rooms roomsClaim) *grant {
	if expires == 0 && rooms.Join == nil && rooms.Publish == nil {
		return nil
	}
	return &grant{Expires: expires, Join: rooms.Join, Publish: rooms.Publish}
}

func (g *grant) mayJoin(room string) bool    { return g == nil || g.Join.match(room) }
func (g *grant) mayPublish(room string) bool { return g == nil || g.Publish.match(room) }

// expires is when the token expires, in Unix milliseconds; 0 is never.
func (g *grant) expires() int64 {
	if g == nil {
		return 0
	}
	return g.Expires
}

// sameRooms reports whether two grants allow the same.
func (g *grant) sameRooms(h *grant) bool {
	var a, b grant
	if g != nil {
		a = *g
	}
	if h != nil {
		b = *h
	}
	return a.Join.equal(b.Join) && a.Publish.equal(b.Publish)
}

// revokes reports whether a socket has to leave a room because g takes the place of
// before. What before did not allow either was a server's doing, and stays.
func (g *grant) revokes(before *grant, room string) bool {
	return before.mayJoin(room) && !g.mayJoin(room)
}

// patterns are names of rooms, some of which end with * for all that begin so. Nil
// matches every room, an empty list none.
type patterns []string

func (p patterns) match(room string) bool {
	if p == nil {
		return true
	}
	for _, one := range p {
		if prefix, open := strings.CutSuffix(one, "*"); one == room || open && strings.HasPrefix(room, prefix) {
			return true
		}
	}
	return false
}

func (p patterns) equal(q patterns) bool { return (p == nil) == (q == nil) && slices.Equal(p, q) }

// check says what is wrong with the patterns.
func (p patterns) check() error {
	for _, one := range p {
		if at := strings.IndexByte(one, '*'); one == "" || at >= 0 && at < len(one)-1 {
			return fmt.Errorf("%q is not a room, nor the beginning of one with * behind it", one)
		}
	}
	return nil
}

// roomsClaim is the claim rooms: {"join": [...], "publish": [...]}. What is not
// there is not restricted.
type roomsClaim struct{ Join, Publish patterns }

var errRoomsClaim = errors.New("the claim rooms is not {join: [...], publish: [...]}")

// UnmarshalJSON refuses what it does not know: a member with a slip in its name
// would restrict nothing.
func (c *roomsClaim) UnmarshalJSON(b []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return errRoomsClaim
	}
	for name, raw := range members {
		list, err := readPatterns(raw)
		if err != nil {
			return err
		}
		switch name {
		case "join":
			c.Join = list
		case "publish":
			c.Publish = list
		default:
			return errRoomsClaim
		}
	}
	return nil
}

// readPatterns reads one list. null is none: it would be taken for no restriction.
func readPatterns(raw json.RawMessage) (patterns, error) {
	var list patterns
	if err := json.Unmarshal(raw, &list); err != nil || list == nil {
		return nil, errRoomsClaim
	}
	return list, list.check()
}
