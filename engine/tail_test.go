package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/socketio"
)

// However many clients read however much of a journal, each is given exactly
// what was for it, in order: as a search of the whole journal finds it.
func TestTailModel(t *testing.T) {
	names := []string{"a", "b", "c", "me"}
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		some := func(n int) (out []string) {
			for _, name := range names {
				if rnd.IntN(n) == 0 {
					out = append(out, name)
				}
			}
			return out
		}
		var journal []socketio.JournalEntry
		all := make(map[uint64]*missed)
		var tail tail
		id := func(o socketio.Offset) fanout.ID { return fanout.ID{Epoch: 1, Ms: o.Ms} }
		prepared := 0
		prepare := func(e *socketio.JournalEntry) *missed { prepared++; return all[e.Offset.Ms] }
		for range 30 {
			for range rnd.IntN(4) {
				ms := uint64(len(journal) + 1)
				journal = append(journal, socketio.JournalEntry{Offset: socketio.Offset{Epoch: "e", Ms: ms}})
				all[ms] = &missed{id: fanout.ID{Epoch: 1, Ms: ms}, rooms: some(3), except: some(6), message: &fanout.Message{}}
				if rnd.IntN(10) == 0 {
					all[ms].message = nil
				}
			}
			after := uint64(rnd.IntN(len(journal) + 1))
			end := uint64(len(journal))
			if rnd.IntN(4) == 0 { // an answer that was overtaken by a later one
				end = after + uint64(rnd.IntN(int(end-after)+1))
			}
			rooms := sinceByRoom{"me": {}}
			for _, name := range some(2) {
				rooms[name] = fanout.ID{Epoch: 1, Ms: uint64(rnd.IntN(len(journal) + 1))}
			}
			tail.add(fanout.ID{Epoch: 1, Ms: after}, fanout.ID{Epoch: 1, Ms: end}, journal[after:end], id, prepare)
			var want []uint64
			for ms := after + 1; ms <= end; ms++ {
				m := all[ms]
				wanted := len(m.rooms) == 0
				for _, room := range m.rooms {
					since, in := rooms[room]
					wanted = wanted || in && m.id.After(since)
				}
				excluded := slices.ContainsFunc(m.except, func(room string) bool { since, in := rooms[room]; return in && m.id.After(since) })
				if wanted && !excluded && m.message != nil {
					want = append(want, ms)
				}
			}
			var got []uint64
			for _, m := range tail.selectFor(fanout.ID{Epoch: 1, Ms: after}, fanout.ID{Epoch: 1, Ms: end}, rooms) {
				got = append(got, m.id.Ms)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("seed %d: after %d to %d, rooms %v: got %v, want %v", seed, after, end, rooms, got, want)
			}
		}
	}
}
