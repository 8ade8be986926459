package state

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// simulate runs one world and returns what is wrong at its points of rest.
func simulate(w *world, rests int) []string {
	for range 3 {
		w.spawn()
	}
	w.hear()
	defer w.ended()
	for range rests {
		for range 40 + w.r.IntN(80) {
			w.live()
		}
		w.say("rest")
		drift := w.settle()
		scrubbed := w.scrubbed(w.t)
		if scrubbed > 0 {
			w.settle() // what was nominated is reaped
		}
		wrong := w.faults()
		if scrubbed > 0 && w.calm {
			wrong = append(wrong, sprintf("I10: a scrub found %d things without any loss of data", scrubbed))
		}
		if drift > 0 && w.calm {
			wrong = append(wrong, sprintf("audits found %v differences without any loss of data", drift))
		}
		wrong = append(wrong, w.replay()...)
		if len(wrong) > 0 {
			return wrong
		}
	}
	w.closeAll()
	w.settle()
	return w.faults()
}

// ears are what the world hears of the rooms' events.
type ears struct {
	mu     sync.Mutex
	graced int                        // events of lefts with grace
	events map[string][]presenceEvent // by room
	marks  chan string
}

// hear listens to what the scripts tell rooms, from now on.
func (w *world) hear() {
	e := &ears{events: map[string][]presenceEvent{}, marks: make(chan string, 100)}
	ps, err := pubsubClient(w.b.options, "ears")
	w.must("ears", err)
	conn, _ := ps.Dedicate()
	conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: func(m rueidis.PubSubMessage) {
		room, _ := presenceRoom(m.Channel)
		event, err := parsePresenceEvent(m.Message)
		if err != nil {
			e.marks <- m.Message
			return
		}
		e.mu.Lock()
		e.events[room] = append(e.events[room], event)
		if event.Grace {
			e.graced++
		}
		e.mu.Unlock()
	}})
	w.must("ears", conn.Do(w.t.Context(), conn.B().Psubscribe().Pattern(presencePattern).Build()).Error())
	w.ears = e
	w.ended = func() {
		ps.conns.closeAll()
		conn.Close()
		ps.Close()
	}
}

// replay applies all events of each room to nothing and compares the outcome
// with Redis (I9): each user comes and goes in turn, and no number is missing. So
// does a member who is told of them by a node, in the end.
func (w *world) replay() (wrong []string) {
	if !w.calm {
		return nil
	}
	w.serial++
	mark := sprintf("mark %d", w.serial)
	w.b.do(w.t, "PUBLISH", presenceChannel("mark"), mark)
	for await(w.t, "mark", w.ears.marks) != mark {
	}
	w.ears.mu.Lock()
	defer w.ears.mu.Unlock()
	for room, events := range w.ears.events {
		there := map[string]bool{}
		for i, e := range events {
			if e.Epoch != events[0].Epoch || e.Seq != uint64(i+1) {
				wrong = append(wrong, sprintf("I9: event %d of %s is %d of epoch %s", i+1, room, e.Seq, e.Epoch))
			}
			for _, user := range e.Joined {
				if there[user] {
					wrong = append(wrong, sprintf("I9: %s joins %s twice", user, room))
				}
				there[user] = true
			}
			for _, user := range e.Left {
				if !there[user] {
					wrong = append(wrong, sprintf("I9: %s leaves %s, where they are not", user, room))
				}
				delete(there, user)
				if e.Grace && !mayReturn(user) {
					wrong = append(wrong, sprintf("%s left %s for good, and with grace", user, room))
				}
			}
			if e.Count != len(there) {
				wrong = append(wrong, sprintf("I9: event %d of %s counts %d, there are %d", i+1, room, e.Count, len(there)))
			}
		}
		members := w.b.list(w.t, "SMEMBERS", roomKey(room))
		slices.Sort(members)
		if got := slices.Sorted(maps.Keys(there)); !slices.Equal(got, members) {
			wrong = append(wrong, sprintf("I9: the events of %s make %q, in Redis are %q", room, got, members))
		}
		if got := w.follow(events); !slices.Equal(got, members) {
			wrong = append(wrong, sprintf("I9: a member of %s knows of %q, in Redis are %q", room, got, members))
		}
	}
	return wrong
}

// follow is the list of a member who is told of a room's events from the first
// on, with grace, after all of it is over.
func (w *world) follow(events []presenceEvent) []string {
	windows := newWindows(100*time.Millisecond, time.Second)
	now := time.Unix(0, 0)
	m := &graceMember{list: map[string]bool{}, epoch: events[0].Epoch}
	tell := func() {
		for _, u := range windows.due(now) {
			m.follow(&u)
		}
	}
	for _, e := range events {
		windows.add("r", e, now)
		now = now.Add(50 * time.Millisecond)
		tell()
	}
	for range 40 {
		now = now.Add(50 * time.Millisecond)
		tell()
	}
	return slices.Sorted(maps.Keys(m.list))
}

// simulations is how many worlds to try: n, or PRESENCE_SIMULATIONS.
func simulations(n int) int {
	if more, err := strconv.Atoi(os.Getenv("PRESENCE_SIMULATIONS")); err == nil {
		return more
	}
	return n
}

func TestPresenceSimulation(t *testing.T) {
	graced := 0
	defer func() {
		if !t.Failed() && graced == 0 {
			t.Error("nobody left with grace")
		}
	}()
	for seed := range uint64(simulations(40)) {
		w := newWorld(t, seed, false)
		if wrong := simulate(w, 3); len(wrong) > 0 {
			t.Fatalf("seed %d, calm %v:\n%s\n\n%s", seed, w.calm, strings.Join(wrong, "\n"), strings.Join(w.trace, "\n"))
		}
		w.ears.mu.Lock()
		graced += w.ears.graced
		w.ears.mu.Unlock()
	}
}

func TestPresenceSimulationOnRedis(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed+1000, true)
			if wrong := simulate(w, 1); len(wrong) > 0 {
				t.Fatalf("seed %d, calm %v:\n%s\n\n%s", seed, w.calm, strings.Join(wrong, "\n"), strings.Join(w.trace, "\n"))
			}
		})
	}
}

// What the simulation must notice: each mutation takes one precaution away.
func TestSimulationNoticesMutations(t *testing.T) {
	replace := func(op *script, old, new string) {
		if !strings.Contains(op.source, old) {
			t.Fatalf("the mutation is out of date: %q is not in the script", old)
		}
		*op = newScript(strings.TrimPrefix(strings.ReplaceAll(op.source, old, new), preludeLua))
	}
	for _, mutation := range []struct {
		name    string
		swapped bool
		mutate  func(*scripts)
	}{
		{name: "no deadline check", mutate: func(s *scripts) {
			for _, op := range []metrics.PresenceOp{metrics.PresenceHold, metrics.PresenceAssert, metrics.PresenceAttach} {
				replace(&s[op], "if now() >= tonumber(ARGV[2]) then return -1 end", "")
			}
		}},
		{name: "no holder counts", mutate: func(s *scripts) { replace(&s[metrics.PresenceRelease], "if not held[i] and", "if") }},
		{name: "swapped reap order", swapped: true},
		{name: "owner read from the prefix", mutate: func(s *scripts) {
			replace(&s[metrics.PresenceReapUser], "if apart(owners[j + 1]) == ARGV[1] then", "if string.sub(owners[j], 1, 8) == string.sub(ARGV[1], 1, 8) then")
		}},
	} {
		var seeds []uint64
		for seed := range uint64(200) {
			w := newWorld(t, seed, false)
			w.mutate, w.swapped = mutation.mutate, mutation.swapped
			w.calm, w.deadly = true, true // and whatever is wrong is the mutation's doing
			if wrong := simulate(w, 3); len(wrong) > 0 {
				seeds = append(seeds, seed)
				if len(seeds) == 1 {
					t.Logf("%s: seed %d: %s", mutation.name, seed, wrong[0])
				}
				break
			}
		}
		if len(seeds) == 0 {
			t.Errorf("%s: the simulation noticed nothing", mutation.name)
		}
	}
}
