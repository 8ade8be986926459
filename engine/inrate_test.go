package engine

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// TestPaceAgainstBucket compares the schedule of 4 bytes with a bucket of moments over random arrivals, among which are
// silences so long that the clock goes round.
func TestPaceAgainstBucket(t *testing.T) {
	for _, tc := range []struct {
		rate  float64
		burst int
		most  int // units of one arrival
	}{
		{500, 2000, 1}, {0.5, 3, 1}, {100_000, 1000, 1}, {4e6, 16_000_000, 20_000}, {1e9, 2_000_000, 1 << 20}, {1, 1800, 4},
	} {
		random := rand.New(rand.NewPCG(7, 8))
		p := newPace(tc.rate, tc.burst)
		var schedule moment
		var now uint64
		full := uint64(p.tolerance)
		have, at, last := full, uint64(0), uint64(0) // last: that passed
		passed, refused, round := 0, 0, 0
		mean := float64(p.charged(tc.most)) / 2
		for range 200_000 {
			switch random.IntN(5_000) {
			case 0: // a part of the burst comes back
				now += uint64(float64(full) * random.Float64())
			case 1: // the clock goes round
				now += uint64(random.Int64N(6 << 32))
				round++
			default:
				now += uint64(random.Float64() * mean)
			}
			have = min(full, have+now-at)
			at = now
			if now-last > 1<<32-full { // so long ago that the schedule may stand for a part of the burst, and for no more
				have = full
				if ahead := uint64(uint32(schedule - moment(now))); ahead <= full {
					have = full - ahead
				}
			}
			n := 1 + random.IntN(tc.most)
			next, ok := p.charge(schedule, n, moment(now))
			if want := have >= p.charged(n); ok != want {
				t.Fatalf("%v per second, burst %d: %d units with %d of %d moments: %v", tc.rate, tc.burst, n, have, full, ok)
			}
			if !ok { // as if they had not come
				refused++
				continue
			}
			passed++
			schedule, last = next, now
			have -= p.charged(n)
		}
		if passed == 0 || refused == 0 || round == 0 {
			t.Errorf("%v per second: %d passed, %d refused, %d rounds: not everything is tried", tc.rate, passed, refused, round)
		}
	}
}

// TestPaceRates: what is rounded does not make another rate of it.
func TestPaceRates(t *testing.T) {
	for _, rate := range []float64{MinPacketRate, 1, 499, 500, 33_333, 60_000, MaxPacketRate, 1e6, 4e6, MaxByteRate} {
		n := max(int(rate), 10)
		got := float64(n) / float64(newPace(rate, 1).charged(n)) * momentsOfOne
		if got < rate*0.97 || got > rate*1.03 {
			t.Errorf("%v per second are %v", rate, got)
		}
	}
}

// TestPaceBurst: exactly the burst passes at once, at any time, and none without a limit is refused.
func TestPaceBurst(t *testing.T) {
	p := newPace(10, 25)
	for _, now := range []moment{0, 1, math.MaxUint32 - 5, 1 << 31} {
		schedule, ok := now-1, true
		for i := range 26 {
			if schedule, ok = p.charge(schedule, 1, now); ok != (i < 25) {
				t.Fatalf("at %d the arrival number %d: %v", now, i, ok)
			}
		}
	}
	for _, ago := range []moment{1, 1 << 10, moment(p.tolerance), moment(p.tolerance) + 1} { // who has sent nothing, just before the clock goes round
		if _, ok := p.charge(0, 25, -ago); !ok {
			t.Errorf("%d before the clock goes round the first burst of a conn is refused", ago)
		}
	}
	var none pace
	if _, ok := none.charge(5, math.MaxInt32, 3); !ok {
		t.Error("refused without a limit")
	}
	if longest := int(MinPacketRate * MaxBurstTime.Seconds()); uint64(newPace(MinPacketRate, longest).tolerance) < newPace(MinPacketRate, 1).charged(longest-1) {
		t.Error("the longest burst is cut short")
	}
	if p := newPace(MaxByteRate, 1); p.charged(1) != 1 {
		t.Errorf("a byte costs %d moments", p.charged(1))
	}
}

func BenchmarkPace(b *testing.B) {
	r := newInboundRates(&Config{PacketRate: 1e5, PacketBurst: 1e5, ByteRate: 1e9, ByteBurst: 1e9})
	var s sent
	born := time.Now()
	b.Run("per packet", func(b *testing.B) {
		for b.Loop() {
			r.charge(&s, 1, 0, 0)
		}
	})
	b.Run("with the clock", func(b *testing.B) {
		for b.Loop() {
			r.charge(&s, 1, 0, momentOf(time.Since(born)))
		}
	})
}
