package fanout

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestWheel(t *testing.T) {
	for name, c := range map[string]struct {
		now, deadline Tick
		advance       []Tick
		fires         Tick // the advance at which it fires; 0: never
	}{
		"next tick":            {0, 1, []Tick{1}, 1},
		"not before":           {0, 5, []Tick{1, 4}, 0},
		"on time":              {0, 5, []Tick{4, 5, 6}, 5},
		"past becomes next":    {10, 3, []Tick{11}, 11},
		"now becomes next":     {10, 10, []Tick{11}, 11},
		"skipped over":         {0, 5, []Tick{9}, 9},
		"one round":            {0, 256, []Tick{255, 256}, 256},
		"many rounds":          {0, 256*3 + 7, []Tick{7, 263, 519, 774, 775}, 775},
		"after a long pause":   {0, 40, []Tick{39, 5000}, 5000},
		"beyond a long pause":  {0, 6000, []Tick{5000, 5999, 6000}, 6000},
		"pause of 256 exactly": {3, 259, []Tick{259}, 259},
		"pause of 257":         {3, 4, []Tick{260}, 260},
		"far away":             {1, 1 << 31, []Tick{1<<31 - 1, 1 << 31}, 1 << 31},
	} {
		t.Run(name, func(t *testing.T) {
			w, conn := wheel{now: c.now}, &Conn{}
			w.set(conn, c.deadline)
			var fired Tick
			for _, now := range c.advance {
				w.advance(now, func(got *Conn) {
					if got != conn || fired != 0 {
						t.Fatal("fired the wrong one or twice")
					}
					fired = now
				})
			}
			if fired != c.fires {
				t.Fatalf("fired at %d, want %d", fired, c.fires)
			}
			if in := conn.flags&connInWheel != 0; in != (c.fires == 0) {
				t.Fatalf("in the wheel: %v", in)
			}
		})
	}
}

// TestWheelAgainstModel compares with a list that is searched at every advance.
func TestWheelAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		var w wheel
		conns := make([]*Conn, 60)
		index := make(map[*Conn]int)
		for i := range conns {
			conns[i] = &Conn{}
			index[conns[i]] = i
		}
		model := make(map[int]Tick)
		set := func(i int, d Tick) {
			w.set(conns[i], d)
			model[i] = max(d, w.now+1)
		}
		span := func() Tick { return []Tick{3, 30, 300, 3000}[r.IntN(4)] }
		for range 2000 {
			switch r.IntN(5) {
			case 0, 1:
				set(r.IntN(len(conns)), w.now+Tick(r.IntN(int(span())))-min(w.now, 2))
			case 2:
				i := r.IntN(len(conns))
				w.remove(conns[i])
				delete(model, i)
			default:
				now := w.now + Tick(r.IntN(int(span())))
				var want, got []int
				for i, d := range model {
					if d <= now {
						want = append(want, i)
						delete(model, i)
					}
				}
				again := make(map[int]Tick)
				w.advance(now, func(c *Conn) {
					i := index[c]
					got = append(got, i)
					if r.IntN(2) == 0 { // as expireConn does: later than now
						again[i] = now + 1 + Tick(r.IntN(600))
						w.set(c, again[i])
					}
				})
				for i, d := range again {
					model[i] = d
				}
				slices.Sort(want)
				slices.Sort(got)
				equal(t, "expired", got, want)
			}
			n := 0
			w.each(func(c *Conn) {
				if n++; model[index[c]] != c.deadline {
					t.Fatalf("conn %d has deadline %d, want %d", index[c], c.deadline, model[index[c]])
				}
			})
			if n != len(model) {
				t.Fatalf("%d conns in the wheel, want %d", n, len(model))
			}
		}
	}
}
