package engine_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stellara/edge/engine"
)

// The pages of a listing have everything once, in order, whatever their size.
func TestLocalListings(t *testing.T) {
	s := newServer(t, engine.Config{UserRooms: "user:"}, withUsers)
	n := s.Of("/")
	var ids, inBig []string
	for i := range 7 {
		c, id := s.join()
		ids = append(ids, id)
		for j := range 5 {
			if i >= j {
				c.Text(fmt.Sprintf(`42%d["join","room%d"]`, j, j))
				c.Expect(fmt.Sprintf("43%d[]", j))
			}
		}
		if i >= 4 {
			inBig = append(inBig, id)
		}
		if i == 0 {
			c.Text(`429["join","also7"]`)
			c.Expect("439[]")
			n.To(id).SocketsJoin("Zoo")
		}
	}
	eventually(t, "the first one to be in Zoo", func() bool {
		page, _ := n.LocalSockets("", "Zoo", 1)
		return len(page) == 1
	})
	slices.Sort(ids)
	slices.Sort(inBig)
	want := []string{"room0 7", "room1 6", "room2 5", "room3 4", "room4 3", "Zoo 1", "also7 1"}
	for limit := 1; limit <= 8; limit++ {
		var rooms []string
		var after *engine.LocalRoom
		for more := true; more; {
			var page []engine.LocalRoom
			page, more = n.LocalRooms(after, limit)
			if len(page) > limit || more && len(page) < limit {
				t.Fatalf("limit %d: a page of %d, more: %v", limit, len(page), more)
			}
			for _, r := range page {
				rooms = append(rooms, fmt.Sprint(r.Name, " ", r.Members))
			}
			if len(page) > 0 {
				after = &page[len(page)-1]
			}
		}
		if !slices.Equal(rooms, want) {
			t.Errorf("limit %d: rooms %q, want %q", limit, rooms, want)
		}
		for room, want := range map[string][]string{"": ids, "room4": inBig, "nowhere": nil} {
			var got []string
			for after, more := "", true; more; {
				var page []*engine.Socket
				page, more = n.LocalSockets(after, room, limit)
				for _, so := range page {
					got = append(got, so.ID())
					after = so.ID()
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("limit %d: sockets of %q are %q, want %q", limit, room, got, want)
			}
		}
	}
	if page, _ := n.LocalSockets("", "", 1); page[0].Describe().ID != ids[0] {
		t.Errorf("described as %+v", page[0].Describe())
	}
}

// Handlers hear of what servers make sockets join and leave, and not of what the
// sockets join themselves.
func TestServerJoinHandlers(t *testing.T) {
	for _, recovery := range []*engine.Recovery{nil, {}} {
		heard := make(chan string, 10)
		s := newServer(t, engine.Config{UserRooms: "user:", Recovery: recovery}, func(srv *engine.Server) {
			withUsers(srv)
			n := srv.Of("/")
			n.OnServerJoin(func(s *engine.Socket, room string) { heard <- fmt.Sprint("join ", s.ID(), room, s.In(room)) })
			n.OnServerLeave(func(s *engine.Socket, room string) { heard <- fmt.Sprint("leave ", s.ID(), room, s.In(room)) })
		})
		n := s.Of("/")
		c, id, _ := s.as(`{"user":"ada"}`)
		c.Text(`421["join","own"]`)
		c.Expect(`431[]`)
		n.To("user:ada").SocketsJoin("r1")
		n.To("user:bob").SocketsJoin("r2")
		n.To(id).SocketsLeave("own", "r1")
		for _, want := range []string{"join " + id + "r1true", "leave " + id + "ownfalse", "leave " + id + "r1false"} {
			if got := <-heard; got != want {
				t.Errorf("heard %s, want %s", got, want)
			}
		}
	}
}
