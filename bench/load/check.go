//go:build linux

package load

import "math/bits"

// Checks counts what was wrong with the messages that arrived; all receivers together.
type Checks struct {
	Duplicated uint64 // arrived again
	Reordered  uint64 // arrived after a later message of the same sender
	Misrouted  uint64 // arrived in a room they were not sent to, or with a broken stamp
}

func (c *Checks) add(o Checks) {
	c.Duplicated += o.Duplicated
	c.Reordered += o.Reordered
	c.Misrouted += o.Misrouted
}

// receiver follows the messages one connection gets in its room: each sender's sequence, and the
// order of all of them as a hash that two members can compare.
type receiver struct {
	next    []uint32 // by the sender's place in the room: the sequence number that is due
	missing []uint64 // sender place and sequence numbers that were skipped
	order   uint64   // running hash of (sender, seq) since the last resetOrder
	count   uint32   // messages in that hash
}

// maxSkip bounds the gap that is believed; a larger one is a broken stamp.
const maxSkip = 1 << 16

// accept takes the message seq of the room's sender j into account, and says what is wrong with it.
func (r *receiver) accept(j int, seq uint32, c *Checks) {
	if j >= len(r.next) {
		c.Misrouted++
		return
	}
	id := uint64(j)<<32 | uint64(seq)
	r.order = bits.RotateLeft64((r.order^id)*0x9E3779B97F4A7C15, 29)
	r.count++
	next := r.next[j]
	switch {
	case seq == next:
		r.next[j]++
	case seq > next:
		if seq-next > maxSkip {
			c.Misrouted++
			return
		}
		for s := next; s < seq; s++ {
			r.missing = append(r.missing, uint64(j)<<32|uint64(s))
		}
		r.next[j] = seq + 1
	default:
		for k, m := range r.missing {
			if m == id {
				r.missing[k] = r.missing[len(r.missing)-1]
				r.missing = r.missing[:len(r.missing)-1]
				c.Reordered++
				return
			}
		}
		c.Duplicated++
	}
}

// lost returns how many of the messages sent so far (by the sender's place) have not arrived.
func (r *receiver) lost(sent []uint32) uint64 {
	n := uint64(len(r.missing))
	for j, s := range sent {
		if s > r.next[j] {
			n += uint64(s - r.next[j])
		}
	}
	return n
}

func (r *receiver) resetOrder() { r.order, r.count = 0, 0 }

// Order is the order in which one or more members of a room saw its messages.
type Order struct {
	Room    int
	Hash    uint64
	Count   uint32 // messages
	Members int    // members that saw exactly this
}

// addOrder counts one more member.
func addOrder(orders []Order, o Order) []Order {
	for i := range orders {
		if orders[i].Room == o.Room && orders[i].Hash == o.Hash && orders[i].Count == o.Count {
			orders[i].Members += o.Members
			return orders
		}
	}
	return append(orders, o)
}

// Disagreeing returns how many members saw another order than the largest group of their room.
func Disagreeing(orders []Order) int {
	largest, all := map[int]int{}, map[int]int{}
	for _, o := range orders {
		all[o.Room] += o.Members
		largest[o.Room] = max(largest[o.Room], o.Members)
	}
	n := 0
	for room, members := range all {
		n += members - largest[room]
	}
	return n
}
