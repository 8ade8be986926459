package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stellara/edge/fanout"
)

func TestDueAfter(t *testing.T) {
	for _, tt := range []struct {
		i, n   int
		window time.Duration
		chance float64
		want   time.Duration
	}{
		{0, 1, time.Minute, 0, 0},
		{0, 1, time.Minute, 0.5, 30 * time.Second},
		{0, 4, 8 * time.Second, 0, 0},
		{0, 4, 8 * time.Second, 0.25, 500 * time.Millisecond},
		{3, 4, 8 * time.Second, 0, 6 * time.Second},
		{3, 4, 8 * time.Second, 0.75, 7500 * time.Millisecond},
		{7, 10, 0, 0.9, 0},
	} {
		if got := dueAfter(tt.i, tt.n, tt.window, tt.chance); got != tt.want {
			t.Errorf("%d of %d in %v, chance %v: %v, want %v", tt.i, tt.n, tt.window, tt.chance, got, tt.want)
		}
	}
}

// Each call comes in its own share of the window, but for the step of the clock, and not at the same place of it.
func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, share = 50, 200 * time.Millisecond
		began := time.Now()
		places := map[time.Duration]bool{}
		spread(nil, n, n*share, func(i int) {
			at := time.Since(began) - time.Duration(i)*share
			if at < 0 || at > share+spreadStep {
				t.Errorf("%d came %v after its share began", i, at)
			}
			places[at] = true
		})
		if len(places) < n/2 {
			t.Errorf("%d calls at %d places of their shares", n, len(places))
		}
	})
}

func TestSpreadStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		stop := make(chan struct{})
		time.AfterFunc(1500*time.Millisecond, func() { close(stop) })
		called := 0
		spread(stop, 100, 100*time.Second, func(int) { called++ })
		if took := time.Since(began); took != 1500*time.Millisecond || called < 1 || called > 2 {
			t.Errorf("%d calls in %v", called, took)
		}
	})
}

func TestRetireAt(t *testing.T) {
	for _, tt := range []struct {
		now, age fanout.Tick
		chance   float64
		want     fanout.Tick
	}{
		{100, 4000, 0, 4100},
		{100, 4000, 0.5, 3600},
		{100, 4000, 0.9999, 3101},
		{100, 1, 0.9, 101},
		{0, 2, 0.5, 2},
	} {
		if got := retireAt(tt.now, tt.age, tt.chance); got != tt.want {
			t.Errorf("opened at %d with age %d, chance %v: %d, want %d", tt.now, tt.age, tt.chance, got, tt.want)
		}
	}
}
