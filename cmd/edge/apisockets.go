package main

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stellara/edge/engine"
)

// Bounds of listings.
const (
	maxSocketPage   = 500     // sockets of one page
	maxPageBytes    = 4 << 20 // of descriptions after which a page of sockets ends: one socket may be in MAX_ROOMS rooms
	maxUserSockets  = 1_000   // sockets of a user that are shown
	maxJoinedRooms  = 100     // rooms of one join or leave
	settleFirst     = 10 * time.Millisecond
	settleMost      = 200 * time.Millisecond
	settleTime      = 3 * time.Second // for which a node that has not carried something out is asked again
	defaultPageSize = 100
)

// apiSocket is a socket as the API shows it.
type apiSocket struct {
	Socket    string   `json:"socket"`
	User      string   `json:"user,omitempty"` // missing for sockets of Node.js servers
	Rooms     []string `json:"rooms"`          // without its own
	Address   string   `json:"address,omitempty"`
	Connected string   `json:"connected,omitempty"` // when its connection was opened, RFC 3339
}

// size is about how many bytes the socket has in an answer.
func (s *apiSocket) size() int {
	n := 120 + len(s.User)
	for _, room := range s.Rooms {
		n += len(room) + 3
	}
	return n
}

// describeSockets describes the first of a page, until they are maxPageBytes: one at
// least, if there is one.
func describeSockets[T any](page []T, describe func(T) apiSocket) []apiSocket {
	sockets, size := make([]apiSocket, 0, len(page)), 0
	for _, s := range page {
		one := describe(s)
		sockets = append(sockets, one)
		if size += one.size(); size >= maxPageBytes {
			break
		}
	}
	return sockets
}

// describeSocket is what a node says of a socket.
func describeSocket(r engine.RemoteSocket) apiSocket {
	var handshake struct {
		Address string
		Issued  int64 // Unix milliseconds
	}
	var who identity
	_ = json.Unmarshal(r.Handshake, &handshake) // what cannot be read is not shown
	_ = json.Unmarshal(r.Data, &who)
	s := apiSocket{Socket: r.ID, User: who.User, Rooms: []string{}, Address: handshake.Address}
	if handshake.Issued > 0 {
		s.Connected = time.UnixMilli(handshake.Issued).UTC().Format(time.RFC3339)
	}
	for _, room := range r.Rooms {
		if room != r.ID {
			s.Rooms = append(s.Rooms, room)
		}
	}
	return s
}

// fetch asks all nodes for the sockets in a room, sorted by id. With an error, those
// of the nodes that answered are there.
func (a *api) fetch(ctx context.Context, room string) ([]engine.RemoteSocket, error) {
	type result struct {
		sockets []engine.RemoteSocket
		err     error
	}
	found := make(chan result, 1)
	a.fleet.Fetch(room, func(sockets []engine.RemoteSocket, err error) { found <- result{sockets, err} })
	select {
	case r := <-found:
		slices.SortFunc(r.sockets, func(a, b engine.RemoteSocket) int { return cmp.Compare(a.ID, b.ID) })
		return r.sockets, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// settled asks for the sockets in a room until ok says that what was told to all
// nodes has been carried out. A node's own answer may overtake that.
func (a *api) settled(ctx context.Context, room string, ok func([]engine.RemoteSocket) bool) ([]engine.RemoteSocket, *problem) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for wait := settleFirst; ; wait = min(2*wait, settleMost) {
		sockets, err := a.fetch(ctx, room)
		if err != nil {
			a.log.Debug("not all nodes have answered the API", "error", err)
			return sockets, fleetProblem(err)
		}
		if ok(sockets) {
			return sockets, nil
		}
		again := time.NewTimer(wait)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return sockets, problemf(apiIncomplete, "%s", incompleteText)
		}
	}
}

// idProblem says why a user or a room cannot have this name.
func idProblem(kind, id string) *problem {
	if err := checkID(kind, id); err != nil {
		return invalidf("%v", err)
	}
	return nil
}

// socketProblem says why this cannot be a socket's id.
func socketProblem(sid string) *problem {
	if !isSocketID(sid) {
		return invalidf("%q is not the id of a socket: %d characters of A-Z a-z 0-9 _ -", shorten(sid), socketIDLen)
	}
	return nil
}

// who is the user or the socket that a path names, as the room that selects it.
func who(c *apiCall) (room string, p *problem) {
	if user := c.r.PathValue("user"); user != "" {
		return userRoomPrefix + user, idProblem("user", user)
	}
	sid := c.r.PathValue("socket")
	return sid, socketProblem(sid)
}

// userSockets answers GET users/{user}/sockets: of all nodes.
func (a *api) userSockets(c *apiCall) (any, *problem) {
	room, p := who(c)
	if p != nil {
		return nil, p
	}
	found, err := a.fetch(c.ctx, room)
	switch {
	case err != nil:
		return nil, fleetProblem(err)
	case len(found) > maxUserSockets:
		return nil, problemf(apiTooMany, "the user has %d sockets, more than the %d of an answer", len(found), maxUserSockets)
	}
	sockets := make([]apiSocket, len(found))
	for i, r := range found {
		sockets[i] = describeSocket(r)
	}
	return struct {
		User    string      `json:"user"`
		Sockets []apiSocket `json:"sockets"`
	}{c.r.PathValue("user"), sockets}, nil
}

// socket answers GET sockets/{socket}: on any node.
func (a *api) socket(c *apiCall) (any, *problem) {
	sid, p := who(c)
	if p != nil {
		return nil, p
	}
	found, err := a.fetch(c.ctx, sid)
	for _, r := range found {
		if r.ID == sid { // a server may have put others into a room of that name
			return describeSocket(r), nil
		}
	}
	if err != nil {
		return nil, fleetProblem(err)
	}
	return nil, problemf(apiNotFound, "no node has a socket %s", sid)
}

// listSockets answers GET sockets: those of this node.
func (a *api) listSockets(c *apiCall) (any, *problem) {
	limit, p := limitOf(c, maxSocketPage)
	if p != nil {
		return nil, p
	}
	after, room := c.query.Get("cursor"), c.query.Get("room")
	if after != "" {
		if p := socketProblem(after); p != nil {
			return nil, invalidf("cursor %q is not the next of a page", shorten(after))
		}
	}
	if c.query.Has("room") {
		if p := idProblem("room", room); p != nil {
			return nil, p
		}
	}
	answer := struct {
		Node    string      `json:"node"`
		Sockets []apiSocket `json:"sockets"`
		Next    string      `json:"next,omitempty"`
	}{Node: a.node, Sockets: []apiSocket{}}
	p = a.work(c.ctx, func() *problem {
		page, more := a.local.LocalSockets(after, room, limit)
		answer.Sockets = describeSockets(page, func(s *engine.Socket) apiSocket { return describeSocket(s.Describe()) })
		if n := len(answer.Sockets); more || n < len(page) {
			answer.Next = answer.Sockets[n-1].Socket
		}
		return nil
	})
	return answer, p
}

// limitOf is the query's limit.
func limitOf(c *apiCall, most int) (int, *problem) {
	for name := range c.query {
		if name != "limit" && name != "cursor" && name != "room" {
			return 0, invalidf("unknown parameter %q", shorten(name))
		}
	}
	if !c.query.Has("limit") {
		return defaultPageSize, nil
	}
	n, err := strconv.Atoi(c.query.Get("limit"))
	if err != nil || n < 1 || n > most {
		return 0, invalidf("limit %q is not a number from 1 to %d", shorten(c.query.Get("limit")), most)
	}
	return n, nil
}

// affected names the sockets that something was done to.
type affected struct {
	Sockets []string `json:"sockets"`
}

func affect(sockets []engine.RemoteSocket) affected {
	ids := make([]string, len(sockets))
	for i, r := range sockets {
		ids[i] = r.ID
	}
	return affected{ids}
}

// disconnectUser answers POST users/{user}/disconnect.
func (a *api) disconnectUser(c *apiCall) (any, *problem) {
	return a.disconnect(c, func(ctx context.Context) error { return a.bars.BarUser(ctx, c.r.PathValue("user")) })
}

// disconnectSocket answers POST sockets/{socket}/disconnect.
func (a *api) disconnectSocket(c *apiCall) (any, *problem) {
	return a.disconnect(c, func(ctx context.Context) error { return a.bars.BarSocket(ctx, c.r.PathValue("socket")) })
}

// disconnect ends sockets on all nodes, and refuses the return of those that are
// away: that first, so that none gets back in between. It goes as far as it can, and
// says whether that was all the way.
func (a *api) disconnect(c *apiCall, bar func(context.Context) error) (any, *problem) {
	room, p := who(c)
	closeConn := true
	if p == nil && len(strings.TrimSpace(string(c.body))) > 0 {
		p = decodeObject(c.body, object{"close": &closeConn})
	}
	if p != nil {
		return nil, p
	}
	before, err := a.fetch(c.ctx, room)
	if a.bars != nil {
		if barred := bar(c.ctx); barred != nil {
			return nil, fleetProblem(barred)
		}
	}
	a.fleet.Disconnect(room, closeConn)
	if err != nil {
		return nil, fleetProblem(err)
	}
	_, p = a.settled(c.ctx, room, func(now []engine.RemoteSocket) bool {
		return !slices.ContainsFunc(now, func(r engine.RemoteSocket) bool {
			return slices.ContainsFunc(before, func(b engine.RemoteSocket) bool { return b.ID == r.ID })
		})
	})
	return affect(before), p
}

func (a *api) joinUser(c *apiCall) (any, *problem)    { return a.join(c) }
func (a *api) joinSocket(c *apiCall) (any, *problem)  { return a.join(c) }
func (a *api) leaveUser(c *apiCall) (any, *problem)   { return a.leave(c) }
func (a *api) leaveSocket(c *apiCall) (any, *problem) { return a.leave(c) }

// join makes sockets join rooms, as if they had asked for it, wherever they are.
func (a *api) join(c *apiCall) (any, *problem) {
	return a.change(c, a.fleet.Join, func(s engine.RemoteSocket, room string) bool { return slices.Contains(s.Rooms, room) })
}

// leave makes sockets leave rooms.
func (a *api) leave(c *apiCall) (any, *problem) {
	return a.change(c, a.fleet.Leave, func(s engine.RemoteSocket, room string) bool { return !slices.Contains(s.Rooms, room) })
}

// change tells all nodes to change the rooms of sockets, and waits until done is true of
// all of them and all rooms.
func (a *api) change(c *apiCall, tell func(to string, rooms []string), done func(s engine.RemoteSocket, room string) bool) (any, *problem) {
	to, p := who(c)
	if p != nil {
		return nil, p
	}
	rooms, p := decodeRooms(c.body)
	if p != nil {
		return nil, p
	}
	tell(to, rooms)
	sockets, p := a.settled(c.ctx, to, func(now []engine.RemoteSocket) bool {
		return !slices.ContainsFunc(now, func(s engine.RemoteSocket) bool {
			return slices.ContainsFunc(rooms, func(room string) bool { return !done(s, room) })
		})
	})
	switch {
	case p != nil:
		return nil, p
	case len(sockets) == 0:
		return nil, problemf(apiNotFound, "no node has such a socket")
	}
	return affect(sockets), nil
}

// decodeRooms reads the body of join and leave.
func decodeRooms(body []byte) ([]string, *problem) {
	var rooms []string
	if p := decodeObject(body, object{"rooms": &rooms}); p != nil {
		return nil, p
	}
	if len(rooms) == 0 || len(rooms) > maxJoinedRooms {
		return nil, invalidf("there are %d rooms; there must be 1 to %d", len(rooms), maxJoinedRooms)
	}
	for i, room := range rooms {
		if p := idProblem("room", room); p != nil {
			return nil, invalidf("rooms[%d]: %s", i, p.Message)
		}
		if isReserved(room) {
			return nil, invalidf("rooms[%d]: rooms named like a socket id or beginning with %s belong to the server", i, userRoomPrefix)
		}
	}
	return rooms, nil
}
