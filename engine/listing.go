package engine

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"
)

// LocalRoom is a room with members on this node.
type LocalRoom struct {
	Name    string
	Members int // on this node
}

// before is the order of LocalRooms: the largest first, and of the same size by name.
func (r LocalRoom) before(other LocalRoom) int {
	return cmp.Or(cmp.Compare(other.Members, r.Members), strings.Compare(r.Name, other.Name))
}

// LocalRooms returns up to limit rooms of this node, the largest first, that come
// after one in that order (nil: from the start), and whether there are more. Private
// rooms and those of users are none. It looks at every room there is.
func (n *Namespace) LocalRooms(after *LocalRoom, limit int) (page []LocalRoom, more bool) {
	first := firsts[LocalRoom]{limit: limit, compare: LocalRoom.before}
	n.srv.hub.EachRoom(n.number, func(name string, members int) {
		if r := (LocalRoom{name, members}); after == nil || r.before(*after) > 0 {
			first.add(r)
		}
	})
	return first.sorted()
}

// LocalSockets returns up to limit sockets of this node, by their ids, that come
// after one ("": from the start), and whether there are more; only those that are in
// the room, unless it is "". It looks at every socket there is. It may be called
// from any goroutine, and takes a while.
func (n *Namespace) LocalSockets(after, room string, limit int) (page []*Socket, more bool) {
	first := firsts[*Socket]{limit: limit, compare: func(a, b *Socket) int { return strings.Compare(string(a.id[:]), string(b.id[:])) }}
	n.srv.sockets.each(func(s *Socket) {
		if s.nsp == n && string(s.id[:]) > after && (room == "" || s.In(room)) && s.Connected() {
			first.add(s)
		}
	})
	return first.sorted()
}

// Describe is what other nodes are told of the socket.
func (s *Socket) Describe() RemoteSocket {
	d := s.describe()
	return RemoteSocket{ID: d.ID, Handshake: d.Handshake, Rooms: d.Rooms, Data: d.Data, nsp: s.nsp}
}

// firsts keeps the first of all that is added, in the order of compare, so that a
// page costs no more memory than it has.
type firsts[T any] struct {
	limit   int
	compare func(a, b T) int
	kept    []T // a heap with the last on top
	dropped bool
}

func (f *firsts[T]) add(v T) {
	switch {
	case len(f.kept) < f.limit:
		heap.Push(f, v)
	case f.limit > 0 && f.compare(v, f.kept[0]) < 0:
		f.kept[0], f.dropped = v, true
		heap.Fix(f, 0)
	default:
		f.dropped = true
	}
}

// sorted returns what is kept, and whether there was more.
func (f *firsts[T]) sorted() ([]T, bool) {
	slices.SortFunc(f.kept, f.compare)
	return f.kept, f.dropped
}

// Len, Less, Swap, Push and Pop implement heap.Interface.

func (f *firsts[T]) Len() int           { return len(f.kept) }
func (f *firsts[T]) Less(i, j int) bool { return f.compare(f.kept[i], f.kept[j]) > 0 }
func (f *firsts[T]) Swap(i, j int)      { f.kept[i], f.kept[j] = f.kept[j], f.kept[i] }
func (f *firsts[T]) Push(v any)         { f.kept = append(f.kept, v.(T)) }
func (f *firsts[T]) Pop() (v any) {
	last := len(f.kept) - 1
	v, f.kept = f.kept[last], f.kept[:last]
	return v
}
