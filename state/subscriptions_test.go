package state

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/stellara/edge/socketio"
)

// sent is one command on its way to the model's Redis.
type sent struct {
	topic
	subscribe bool
}

// TestSubscriptionsModel runs random wishes against a Redis that confirms in
// order, late, and forgets everything when the connection breaks.
func TestSubscriptionsModel(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		byPattern := seed%2 == 0
		s := newSubscriptions(socketio.Channels{Key: "k"}, "nodeAAAA", "uidABC", byPattern)
		s.heard = "user:"
		redis := map[topic]bool{}
		var wire []sent
		wanted := map[string]uint64{} // room → generation
		announced := map[string]uint64{}
		note := func(list []announcement) {
			for _, a := range list {
				if gen, ok := wanted[a.room]; ok && gen == a.gen {
					announced[a.room] = a.gen
				}
			}
		}
		send := func() {
			c := s.next(1 + r.IntN(4))
			for _, name := range c.subscribe {
				wire = append(wire, sent{topic{name, false}, true})
			}
			for _, name := range c.psubscribe {
				wire = append(wire, sent{topic{name, true}, true})
			}
			for _, name := range c.unsubscribe {
				wire = append(wire, sent{topic{name, false}, false})
			}
		}
		confirm := func() {
			if len(wire) == 0 {
				return
			}
			c := wire[0]
			wire = wire[1:]
			if c.subscribe {
				redis[c.topic] = true
			} else {
				delete(redis, c.topic)
			}
			note(s.confirm(c.topic, nil))
		}
		rooms := []string{"a", "b", "c", "nodeAAAA000000000001", "user:ada", "a{b}"}
		for gen := range uint64(200) {
			room := rooms[r.IntN(len(rooms))]
			switch r.IntN(12) {
			case 0, 1, 2:
				wanted[room] = gen
				if a, live := s.want("/", room, gen); live {
					note([]announcement{a})
				}
			case 3, 4:
				if old, ok := wanted[room]; ok && r.IntN(3) > 0 {
					s.forget("/", room, old)
					delete(wanted, room)
					delete(announced, room)
				} else {
					s.forget("/", room, gen+1000) // of a generation that is not current
				}
			case 5:
				if r.IntN(5) == 0 {
					redis, wire = map[topic]bool{}, nil
					s.reset()
				}
			case 6, 7, 8:
				send()
			default:
				confirm()
			}
		}
		for range 1000 {
			send()
			confirm()
		}
		want := map[topic]bool{}
		if len(s.namespaces) > 0 {
			for _, name := range []string{"k-request#/#", "k-response#/#", "k-response#/#uidABC#"} {
				want[topic{name, false}] = true
			}
			if byPattern {
				want[topic{"k#/#*", true}], want[topic{presencePattern, true}] = true, true
			} else {
				want[topic{"k#/#", false}], want[topic{"k#/#nodeAAAA????????????#", true}] = true, true
				want[topic{"k#/#user:*", true}] = true
				for room := range wanted {
					if room == "nodeAAAA000000000001" || room == "user:ada" {
						continue // its channel is a pattern's
					}
					want[topic{"k#/#" + room + "#", false}] = true
					if room != "a{b}" { // no presence there
						want[topic{presenceChannel(room), false}] = true
					}
				}
			}
		}
		if !reflect.DeepEqual(redis, want) {
			t.Errorf("seed %d: subscribed to %v, want %v", seed, redis, want)
		}
		if !reflect.DeepEqual(announced, wanted) {
			t.Errorf("seed %d: announced %v, want %v", seed, announced, wanted)
		}
		if s.baseDown != 0 || s.restoring != 0 || s.liveCount != len(want) || len(s.topics) != len(want) || len(s.dirty) != 0 {
			t.Errorf("seed %d: %d down, %d live of %d, %d topics, %d dirty", seed, s.baseDown, s.liveCount, len(want), len(s.topics), len(s.dirty))
		}
	}
}

// Namespaces whose names contain # can share a channel; both hear it.
func TestChannelsThatCoincide(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", nil)
	n.Bus().Open("/#x")
	subscribe(t, n, "/", "x", 1)
	n.Bus().Open("/#y")
	subscribe(t, n, "/#y", "z", 1)
	publish(t, n, "/", "x", "one")
	publish(t, n, "/#y", "z", "two")
	eventually(t, "both hear both", func() error {
		if len(n.delivered()) < 4 {
			return errNotYet
		}
		return nil
	})
	got := n.delivered()
	for _, want := range []delivery{{"/", "x", "one"}, {"/#x", "", "one"}, {"/", "y#z", "two"}, {"/#y", "z", "two"}} {
		if !slices.Contains(got, want) {
			t.Errorf("%v lacks %v", got, want)
		}
	}
	if len(got) != 4 {
		t.Errorf("%d deliveries, want 4: %s", len(got), strconv.Quote(got[len(got)-1].payload))
	}
}
