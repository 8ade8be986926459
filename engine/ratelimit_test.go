package engine

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// at is the address of a request that came from remote.
func at(remote string) netip.Addr { return remoteAddress(&http.Request{RemoteAddr: remote}) }

// bucket is the limiter's model: a bucket of tokens that fills as time goes by. Tokens are
// counted in nanoseconds of filling, so that nothing is rounded.
type bucket struct {
	interval, most int64
	have, at       int64
}

func newBucket(perSecond float64, burst int) *bucket {
	interval := int64(float64(time.Second) / perSecond)
	return &bucket{interval: interval, most: interval * int64(burst), have: interval * int64(burst)}
}

// has fills the bucket up to now and reports whether it has a token.
func (b *bucket) has(now int64) bool {
	b.have = min(b.most, b.have+now-b.at)
	b.at = now
	return b.have >= b.interval
}

// TestLimiterAgainstBuckets lets many sources connect at random times, and compares every
// decision with what a bucket for all and one for each source say.
func TestLimiterAgainstBuckets(t *testing.T) {
	for _, tc := range []struct {
		rate, perSource        float64
		burst, perSourceBurst  int
		sources, gapMS, rounds int
	}{
		{100, 3, 20, 5, 50, 8, 20_000},
		{100, 0, 1, 1, 50, 8, 20_000},
		{0, 2, 1, 1, 200, 4, 20_000},
		{0, 0.5, 1, 10, 20, 100, 20_000},
		{1000, 1000, 1000, 1000, 2, 1, 20_000},
	} {
		t.Run(fmt.Sprintf("%v and %v per second", tc.rate, tc.perSource), func(t *testing.T) {
			l := newConnectLimiter(&Config{ConnectRate: tc.rate, ConnectBurst: tc.burst, ConnectRatePerSource: tc.perSource, ConnectBurstPerSource: tc.perSourceBurst})
			random := rand.New(rand.NewPCG(1, 2))
			all := newBucket(max(tc.rate, 1), tc.burst)
			each := map[string]*bucket{}
			said := map[verdict]int{}
			var now int64
			for range tc.rounds {
				now += random.Int64N(int64(tc.gapMS) * 2 * int64(time.Millisecond))
				addr := fmt.Sprintf("10.0.%d.7:%d", random.IntN(tc.sources), 1024+random.IntN(60_000))
				host, _, _ := strings.Cut(addr, ":")
				b := each[host]
				if b == nil {
					b = newBucket(max(tc.perSource, 0.1), tc.perSourceBurst)
					b.at = now
					each[host] = b
				}
				want := letIn
				switch {
				case tc.perSource > 0 && !b.has(now):
					want = tooMany
				case tc.rate > 0 && !all.has(now):
					want = overall
				default:
					b.have -= b.interval
					all.have -= all.interval
				}
				got, wait := l.decide(at(addr), now)
				if got != want || (wait > 0) != (want != letIn) {
					t.Fatalf("at %v from %s: %d, wait %v; the model says %d", time.Duration(now), host, got, time.Duration(wait), want)
				}
				if got != letIn { // the wait is neither too short nor too long
					if soon, _ := l.decide(at(addr), now+wait-1); soon != got {
						t.Fatalf("let in before the %v of its wait were over", time.Duration(wait))
					}
				}
				said[got]++
			}
			if said[letIn] == 0 || tc.perSource > 0 && tc.perSource < 100 && said[tooMany] == 0 || tc.rate > 0 && tc.rate < 1000 && said[overall] == 0 {
				t.Errorf("the load does not try every verdict: %v", said)
			}
		})
	}
}

// TestLimiterWait: who waits as long as was said is let in.
func TestLimiterWait(t *testing.T) {
	l := newConnectLimiter(&Config{ConnectRate: 3, ConnectBurst: 2, ConnectRatePerSource: 0.7, ConnectBurstPerSource: 1})
	var now int64
	for i := range 100 {
		v, wait := l.decide(at(fmt.Sprintf("10.0.0.%d:9", i%3)), now)
		if wait > 0 {
			now += wait
			if v, wait = l.decide(at(fmt.Sprintf("10.0.0.%d:9", i%3)), now); v == tooMany {
				t.Fatalf("its own limit refuses again, for %v, after the wait", time.Duration(wait))
			} else if v == overall {
				now += wait
			}
		}
	}
}

// TestSources: what counts as one source.
func TestSources(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		same bool
	}{
		{"10.0.0.1:1", "10.0.0.1:65535", true},
		{"10.0.0.1:1", "10.0.0.2:1", false},
		{"10.0.0.1:1", "[::ffff:10.0.0.1]:1", true},
		{"[2001:db8:1:2:3:4:5:6]:1", "[2001:db8:1:2:ffff::1]:2", true},
		{"[2001:db8:1:2::]:1", "[2001:db8:1:3::]:1", false},
		{"[fe80::1%eth0]:1", "[fe80::2%eth1]:1", true},
		{"[::1]:1", "0.0.0.0:1", false},
		{"[::1]:1", "127.0.0.1:1", false},
	} {
		a, b := sourceOf(at(tc.a)), sourceOf(at(tc.b))
		if (a == b) != tc.same {
			t.Errorf("%s is %x, %s is %x; one source: want %v", tc.a, a, tc.b, b, tc.same)
		}
	}
	for _, addr := range []string{"", "@", "/run/edge.sock", "edge:80"} {
		if a := at(addr); a.IsValid() {
			t.Errorf("%q is the address %v", addr, a)
		}
	}
}

// TestLimiterForgets: more sources than there is room for push out nobody whose schedule
// matters as long as others are past theirs.
func TestLimiterForgets(t *testing.T) {
	l := newConnectLimiter(&Config{ConnectRatePerSource: 1, ConnectBurstPerSource: 1})
	at6 := func(i int) netip.Addr { return at(fmt.Sprintf("[2001:db8:%x:%x::1]:443", i>>16, i&0xffff)) }
	const many = 4 * sourceSets * sourceSetSize
	for i := range many {
		if v, _ := l.decide(at6(i), int64(i)*int64(time.Second)/1000); v != letIn {
			t.Fatalf("source %d was not let in", i)
		}
	}
	// 1,000 of them came within the last second: an eighth of an entry per set, so nearly all must be remembered.
	last := int64(many-1) * int64(time.Second) / 1000
	forgotten := 0
	for i := many - 999; i < many; i++ {
		if v, _ := l.decide(at6(i), last); v == letIn {
			forgotten++
		}
	}
	if forgotten > 0 {
		t.Errorf("%d of 999 sources were forgotten while their schedule mattered", forgotten)
	}
	// All at once there is no room; it must stay a table, and still refuse the latest.
	now := last + int64(time.Hour)
	for i := range many {
		l.decide(at6(i), now)
	}
	if v, wait := l.decide(at6(many-1), now); v != tooMany || wait != int64(time.Second) {
		t.Errorf("the latest source: %d, wait %v", v, time.Duration(wait))
	}
	if len(l.sets) != sourceSets {
		t.Errorf("%d sets", len(l.sets))
	}
}

// TestLimiterConcurrency: no more are let in than the limits say, whoever asks at once.
func TestLimiterConcurrency(t *testing.T) {
	l := newConnectLimiter(&Config{ConnectRate: 1, ConnectBurst: 500, ConnectRatePerSource: 1, ConnectBurstPerSource: 70})
	var in [16]atomic.Int64
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 1000 {
				source := (g + i) % len(in)
				if v, _ := l.decide(at(fmt.Sprintf("10.0.0.%d:1", source)), 0); v == letIn {
					in[source].Add(1)
				}
			}
		})
	}
	all.Wait()
	var sum int64
	for i := range in {
		n := in[i].Load()
		if n > 70 {
			t.Errorf("source %d was let in %d times", i, n)
		}
		sum += n
	}
	if sum != 500 {
		t.Errorf("%d were let in, not 500", sum)
	}
}

// TestComeBackAfter: whole seconds, never before the wait is over, spread.
func TestComeBackAfter(t *testing.T) {
	none := func(int64) int64 { return 0 }
	most := func(n int64) int64 { return n - 1 }
	for _, tc := range []struct {
		wait        time.Duration
		least, last int64
	}{{1, 1, 5}, {time.Second, 1, 5}, {time.Second + 1, 2, 6}, {90 * time.Second, 90, 94}} {
		if a, b := comeBackAfter(tc.wait, none), comeBackAfter(tc.wait, most); a != tc.least || b != tc.last {
			t.Errorf("%v: %d to %d s, want %d to %d", tc.wait, a, b, tc.least, tc.last)
		}
	}
}

// TestRateConfig: rates that make no sense are named.
func TestRateConfig(t *testing.T) {
	for name, cfg := range map[string]Config{
		"ConnectRate -1": {ConnectRate: -1}, "ConnectRate NaN": {ConnectRate: nan()}, "ConnectRatePerSource 1e+09": {ConnectRatePerSource: 1e9},
		"burst -2 of ConnectRate":          {ConnectRate: 1, ConnectBurst: -2},
		"burst 2000000 of ConnectRatePerS": {ConnectRatePerSource: 1, ConnectBurstPerSource: 2_000_000},
	} {
		if _, err := cfg.withDefaults(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg, err := Config{ConnectRate: 2.5, ConnectRatePerSource: 0.1}.withDefaults()
	if err != nil || cfg.ConnectBurst != 3 || cfg.ConnectBurstPerSource != 1 {
		t.Errorf("bursts %d and %d, %v", cfg.ConnectBurst, cfg.ConnectBurstPerSource, err)
	}
	if newConnectLimiter(&Config{}) != nil {
		t.Error("a limiter without limits")
	}
}

func nan() (zero float64) { return zero / zero }

// TestLimiterSpares: proxies have no limit of their own, whether they are known for what they are or only likely to be.
func TestLimiterSpares(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	for _, tc := range []struct {
		name       string
		publicOnly bool
		addr       string
		second     verdict
	}{
		{"public", true, "192.0.2.1:9", tooMany},
		{"private", true, "10.0.0.1:9", letIn},
		{"private in IPv6's form", true, "[::ffff:10.0.0.1]:9", letIn},
		{"loopback", true, "[::1]:9", letIn},
		{"private where all count", false, "10.0.0.1:9", tooMany},
		{"a trusted proxy", false, "203.0.113.7:9", letIn},
	} {
		l := newConnectLimiter(&Config{ConnectRatePerSource: 1, ConnectBurstPerSource: 1, ConnectRatePublicOnly: tc.publicOnly, TrustedProxies: trusted})
		l.decide(at(tc.addr), 1)
		if got, _ := l.decide(at(tc.addr), 2); got != tc.second {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.second)
		}
	}
}

func BenchmarkLimiter(b *testing.B) {
	addrs := make([]netip.Addr, 1<<14)
	for i := range addrs {
		addrs[i] = at(fmt.Sprintf("10.%d.%d.%d:40000", i>>12, i>>6&63, i&63))
	}
	for name, cfg := range map[string]Config{
		"global":              {ConnectRate: 1e6, ConnectBurst: 1_000_000},
		"source":              {ConnectRatePerSource: 10, ConnectBurstPerSource: 10},
		"source and global":   {ConnectRate: 1e6, ConnectBurst: 1_000_000, ConnectRatePerSource: 10, ConnectBurstPerSource: 10},
		"one refused source":  {ConnectRatePerSource: 0.001, ConnectBurstPerSource: 1},
		"one refused for all": {ConnectRate: 0.001, ConnectBurst: 1},
	} {
		b.Run(name, func(b *testing.B) {
			l := newConnectLimiter(&cfg)
			addrs := addrs
			if strings.HasPrefix(name, "one") {
				addrs = addrs[:1]
			}
			born := time.Now()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := rand.IntN(len(addrs)); pb.Next(); i++ {
					l.decide(addrs[i%len(addrs)], int64(time.Since(born)))
				}
			})
		})
	}
}
