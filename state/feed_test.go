package state

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// feedWorld is one journal, one node that follows it, and a Pub/Sub connection
// that breaks. Everything happens in random order, and nothing in time.
type feedWorld struct {
	r      *rand.Rand
	mutant string

	// Redis.
	epoch   int
	log     []socketio.Offset // all that was ever published, over all epochs
	journal []int             // indexes of log: what the stream has
	gone    socketio.Offset
	ms, seq uint64

	// Pub/Sub: what is on its way to the node; -1-i is a tail that is log[i].
	wire []int
	up   bool

	// The node.
	f         feed
	live      bool  // the subscriptions are confirmed
	delivered []int // indexes of log, -1 for Missed
	trace     []string
}

func (w *feedWorld) say(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *feedWorld) name() string { return "epoch" + fmt.Sprintf("%03d", w.epoch) }

func newFeedWorld(seed uint64, mutant string) *feedWorld {
	w := &feedWorld{r: rand.New(rand.NewPCG(seed, 4)), mutant: mutant}
	w.f.follow("/", "s", socketio.Offset{Epoch: w.name()})
	return w
}

func (w *feedWorld) t() *track { return w.f.tracks[0] }

func (w *feedWorld) publish() {
	if w.seq++; w.r.IntN(3) == 0 {
		w.ms, w.seq = w.ms+1+uint64(w.r.IntN(3)), 0
	}
	i := len(w.log)
	w.log = append(w.log, socketio.Offset{Epoch: w.name(), Ms: w.ms, Seq: w.seq})
	w.journal = append(w.journal, i)
	if w.up {
		w.wire = append(w.wire, i)
	}
	w.say("publish %d", i)
}

// probe sends the tail of the stream.
func (w *feedWorld) probe() {
	if w.up && len(w.log) > 0 && w.log[len(w.log)-1].Epoch == w.name() {
		w.wire = append(w.wire, -len(w.log))
		w.say("probe %d", len(w.log)-1)
	}
}

// flush is FLUSHALL and a bind.
func (w *feedWorld) flush() {
	w.epoch++
	w.journal, w.gone = nil, socketio.Offset{}
	w.say("flush: %s", w.name())
}

func (w *feedWorld) trim() {
	if n := w.r.IntN(len(w.journal) + 1); n > 0 {
		w.gone = w.log[w.journal[n-1]]
		w.journal = w.journal[n:]
		w.say("trim up to %v", w.gone)
	}
}

func (w *feedWorld) lose() {
	w.up, w.live, w.wire = false, false, nil
	w.f.gap(metrics.GapConnection, "")
	w.say("lose")
}

// hear is one arrival from Pub/Sub, as Bus.hearsEntry and Bus.hearsTail take it.
func (w *feedWorld) hear() {
	if len(w.wire) == 0 {
		return
	}
	i := w.wire[0]
	w.wire = w.wire[1:]
	if i < 0 {
		o := w.log[-i-1]
		if w.t().arrive(o) == arrivedElsewhere {
			w.f.gap(metrics.GapEpoch, o.Epoch)
			w.t().arrive(o)
		}
		if w.mutant == "watermarks count in a gap" && o.After(w.t().last) {
			w.t().last = o
		}
		w.say("hear tail %d", -i-1)
		return
	}
	switch w.t().arrive(w.log[i]) {
	case arrivedNew:
		w.delivered = append(w.delivered, i)
		w.say("hear %d", i)
	case arrivedElsewhere:
		w.f.gap(metrics.GapEpoch, w.log[i].Epoch)
		w.t().arrive(w.log[i])
		w.say("hear %d, of another epoch", i)
	case arrivedWithheld:
		if w.mutant == "nothing is withheld" {
			w.delivered = append(w.delivered, i)
		}
		w.say("withhold %d", i)
	default:
		w.say("hear %d again", i)
	}
}

// tell is repair.miss.
func (w *feedWorld) tell(why string) {
	w.say("missed: %s", why)
	if w.mutant != "misses in silence" {
		w.delivered = append(w.delivered, -1)
	}
}

// missed is repair.passOver.
func (w *feedWorld) missed(why string) {
	w.tell(why)
	tail := socketio.Offset{Epoch: w.name()}
	if n := len(w.log); n > 0 && w.log[n-1].Epoch == tail.Epoch {
		tail = w.log[n-1]
	}
	w.t().skip(tail)
}

// repair is a repair that others interrupt after each step, as repair.track does it.
func (w *feedWorld) repair(between func()) {
	gap := w.t()
	for w.live && gap.open {
		if gap.last.Epoch != w.name() {
			if gap.turn != w.name() && w.mutant != "every epoch is whole" {
				w.tell("epoch")
			}
			gap.enter(w.name())
		}
		last, shown, epoch := gap.last, gap.shown, w.name()
		between()
		if !w.live {
			return
		}
		var entries []int // XRANGE
		for _, i := range w.journal {
			if o := w.log[i]; o.Ms > last.Ms || o.Ms == last.Ms && o.Seq > last.Seq {
				entries = append(entries, i)
			}
		}
		count := 1 + w.r.IntN(3)
		end := len(entries) < count
		entries = entries[:min(count, len(entries))]
		between() // then HMGET
		if !w.live {
			return
		}
		if w.name() != epoch {
			continue
		}
		if w.gone.After(last) && w.mutant != "trimming is ignored" {
			w.missed("trimmed")
			continue
		}
		if w.r.IntN(2) == 0 {
			between()
		}
		for _, i := range entries {
			if !w.live {
				return
			}
			gap.take(w.log[i])
			w.delivered = append(w.delivered, i)
			w.say("read %d", i)
			if w.r.IntN(2) == 0 {
				between()
			}
		}
		if !w.live || !end {
			continue
		}
		if w.mutant == "what arrived is ignored" {
			gap.shown = socketio.Offset{}
		}
		if gap.caughtUp(shown) {
			w.say("closed at %v", gap.last)
		}
	}
}

// step is anything but a repair.
func (w *feedWorld) step(calm bool) {
	switch k := w.r.IntN(30); {
	case k < 9:
		w.publish()
	case k < 18:
		w.hear()
	case k < 20:
		w.probe()
	case k < 23:
		if !w.up {
			w.up = true
			w.say("subscribed")
		} else if !w.live {
			w.live = true
			w.say("confirmed")
		}
	case k < 24:
		w.lose()
	case calm:
	case k < 25:
		w.trim()
	case k < 26 && w.r.IntN(3) == 0:
		w.flush()
	}
}

// run lives through a world and returns what is wrong at its end.
func (w *feedWorld) run(calm bool) (wrong string) {
	for range 150 {
		if w.live && w.t().open && w.r.IntN(3) == 0 {
			w.repair(func() {
				for range w.r.IntN(3) {
					w.step(calm)
				}
			})
		}
		w.step(calm)
	}
	w.up, w.live = true, true
	w.publish()
	for range 4 {
		w.probe()
		for len(w.wire) > 0 {
			w.hear()
		}
		w.repair(func() {})
	}
	return w.judge(calm)
}

func (w *feedWorld) judge(calm bool) string {
	next, missed := 0, false
	for _, i := range w.delivered {
		switch {
		case i < 0 && calm:
			return "Missed without a reason"
		case i < 0:
			missed = true
			continue
		case i < next:
			return "delivered again or out of order: " + strconv.Itoa(i)
		case i > next && !missed:
			return "not delivered, and nobody was told: " + strconv.Itoa(next)
		}
		next, missed = i+1, false
	}
	if next < len(w.log) && !missed {
		return "never delivered: " + strconv.Itoa(next)
	}
	if w.t().open {
		return "the gap stays open"
	}
	return ""
}

func TestFeedModel(t *testing.T) {
	for seed := range uint64(4000) {
		w := newFeedWorld(seed, "")
		if wrong := w.run(seed%2 == 0); wrong != "" {
			t.Fatalf("seed %d: %s\n%q", seed, wrong, w.trace)
		}
	}
}

// The model finds what is wrong: each of these mistakes.
func TestFeedModelFindsMutants(t *testing.T) {
	for _, mutant := range []string{
		"what arrived is ignored", "nothing is withheld", "trimming is ignored", "misses in silence",
		"every epoch is whole", "watermarks count in a gap",
	} {
		found := false
		for seed := uint64(0); seed < 4000 && !found; seed++ {
			found = newFeedWorld(seed, mutant).run(seed%2 == 0) != ""
		}
		if !found {
			t.Errorf("%q is not found", mutant)
		}
	}
}
