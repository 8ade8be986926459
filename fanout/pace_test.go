package fanout

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// days lets a pace see passes of one length at one distance, and returns what it
// says last.
func days(p *pace, now *time.Time, n int, idle, pass time.Duration) (wait time.Duration) {
	for range n {
		start := now.Add(idle + wait)
		*now = start.Add(pass)
		wait = p.after(start, *now)
	}
	return wait
}

func TestPace(t *testing.T) {
	for name, c := range map[string]struct {
		max, idle, pass time.Duration
		least, most     time.Duration
	}{
		"off":               {0, 0, time.Millisecond, 0, 0},
		"hardly anything":   {10 * time.Millisecond, 100 * time.Millisecond, 100 * time.Microsecond, 0, 0},
		"a twentieth":       {10 * time.Millisecond, 19 * time.Millisecond, time.Millisecond, 0, 0},
		"a third":           {10 * time.Millisecond, 2 * time.Millisecond, time.Millisecond, 10 * time.Microsecond, 4 * time.Millisecond},
		"never idle":        {10 * time.Millisecond, 0, 50 * time.Millisecond, 10 * time.Millisecond, 10 * time.Millisecond},
		"one pass for ever": {10 * time.Millisecond, 0, time.Hour, 10 * time.Millisecond, 10 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			p, now := pace{max: c.max}, time.Now()
			if got := days(&p, &now, 1000, c.idle, c.pass); got < c.least || got > c.most {
				t.Fatalf("waits %v, want %v to %v", got, c.least, c.most)
			}
		})
	}
}

// After a quiet time a message leaves at once, however busy it was before.
func TestPaceForgets(t *testing.T) {
	p, now := pace{max: 10 * time.Millisecond}, time.Now()
	if got := days(&p, &now, 100, 0, 20*time.Millisecond); got != p.max {
		t.Fatalf("busy, it waits %v", got)
	}
	if got := days(&p, &now, 1, paceMemory, time.Millisecond); got != 0 {
		t.Fatalf("after a rest it waits %v", got)
	}
}

// Whatever passes are like, busy is a share and the wait within its bound.
func TestPaceBounds(t *testing.T) {
	p, now := pace{max: 30 * time.Millisecond}, time.Now()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		start := now.Add(time.Duration(rnd.ExpFloat64() * float64(time.Millisecond)))
		now = start.Add(time.Duration(rnd.ExpFloat64() * float64(time.Duration(rnd.IntN(1<<rnd.IntN(28))))))
		if got := p.after(start, now); got < 0 || got > p.max || p.busy < 0 || p.busy > 1 {
			t.Fatalf("waits %v, busy %v", got, p.busy)
		}
	}
}

// A busy shard collects; one that was idle does not, and both end when told to.
func TestBusyShardCollects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(Config{WriteDelay: time.Second}, &fakeBus{}, newMetrics())
		s := h.shards[0]
		f := dial(h)
		h.stopped.Go(s.run)
		send(h, f, 20, 1)
		synctest.Wait()
		equal(t, "idle, at once", f.got(), []uint64{1})
		send(h, f, 20, 2)
		synctest.Wait()
		equal(t, "idle, at once again", f.got(), []uint64{1, 2})
		s.pace.busy, s.pace.last = 1, time.Now() // virtual time stands still in a pass
		send(h, f, 20, 3)
		synctest.Wait()
		equal(t, "the first of a burst", f.got(), []uint64{1, 2, 3})
		f.writes = nil
		for id := uint64(4); id < 14; id++ {
			send(h, f, 20, id)
			time.Sleep(50 * time.Millisecond)
		}
		if n := len(f.got()); n != 3 {
			t.Fatalf("%d messages are written before the wait is over", n)
		}
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		equal(t, "collected", f.writes, []int{200})
		h.Close()
	})
}
