package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestExpiryTerms(t *testing.T) {
	terms := expiryTerms{warning: 60, leeway: 30}
	for _, tt := range []struct {
		terms        expiryTerms
		expires, now int64
		warned       bool
		act          expiryAct
		next         int64
	}{
		{terms, 1000, 0, false, expiryWait, 940},
		{terms, 1000, 939, false, expiryWait, 940},
		{terms, 1000, 940, false, expiryWarn, 1030},
		{terms, 1000, 940, true, expiryWait, 1030},
		{terms, 1000, 1029, false, expiryWarn, 1030},
		{terms, 1000, 1029, true, expiryWait, 1030},
		{terms, 1000, 1030, true, expiryEnd, 0},
		{terms, 1000, 5000, false, expiryEnd, 0},
		{expiryTerms{leeway: 30}, 1000, 999, false, expiryWait, 1030},
		{expiryTerms{warning: 60}, 1000, 1000, true, expiryEnd, 0},
	} {
		if act, next := tt.terms.act(tt.expires, tt.warned, tt.now); act != tt.act || next != tt.next {
			t.Errorf("%+v: %v, %d", tt, act, next)
		}
	}
}

// clockedExpiries are expiries with a clock that the test sets, and what they did.
type clockedExpiries struct {
	*expiries
	ms   atomic.Int64
	told []string
}

func newClockedExpiries(warning, leeway time.Duration) *clockedExpiries {
	c := &clockedExpiries{}
	c.expiries = newExpiries(warning, leeway, prometheus.NewGauge(prometheus.GaugeOpts{Name: "expiring"}), func() time.Time { return time.UnixMilli(c.ms.Load()) })
	c.warn = func(s socket, expires int64) { c.told = append(c.told, fmt.Sprint("warn ", s.ID(), " ", expires)) }
	c.end = func(s socket, expires int64) { c.told = append(c.told, fmt.Sprint("end ", s.ID(), " ", expires)) }
	return c
}

// at sets the clock and returns what is done then.
func (c *clockedExpiries) at(ms int64) []string {
	c.ms.Store(ms)
	c.told = nil
	c.step()
	return c.told
}

// TestExpiriesInOrder: whatever sockets come, go and are renewed, each is warned once
// and ended once, when it is due.
func TestExpiriesInOrder(t *testing.T) {
	c := newClockedExpiries(100*time.Millisecond, 0)
	who := map[string]*identity{}
	ends := map[int64][]string{}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 500 {
		name := fmt.Sprintf("s%03d", i)
		s := &fakeSocket{id: name}
		who[name] = &identity{}
		c.set(s, who[name], 150+r.Int64N(800))
		expires := 150 + r.Int64N(800)
		c.set(s, who[name], expires) // renewed
		switch i % 5 {
		case 0:
			c.remove(who[name])
		case 1:
			c.set(s, who[name], 0)
		default:
			ends[expires] = append(ends[expires], name)
		}
	}
	if got := testutil.ToFloat64(c.gauge); got != 300 {
		t.Errorf("%v sockets expire, want 300", got)
	}
	for ms := int64(0); ms < 1000; ms++ {
		var want []string
		for _, name := range ends[ms+100] {
			want = append(want, fmt.Sprint("warn ", name, " ", ms+100))
		}
		for _, name := range ends[ms] {
			want = append(want, fmt.Sprint("end ", name, " ", ms))
		}
		got := c.at(ms)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("at %d ms: %v, want %v", ms, got, want)
		}
	}
	if got := testutil.ToFloat64(c.gauge); got != 0 || len(c.heap) != 0 {
		t.Errorf("%v sockets are left, %d in the heap", got, len(c.heap))
	}
	for _, i := range who {
		c.remove(i) // as when they disconnect
	}
}

// TestExpirySleeps: nobody comes again before there is something to do, nor later
// than the clock is trusted.
func TestExpirySleeps(t *testing.T) {
	c := newClockedExpiries(0, 0)
	if got := c.step(); got != maxSleep {
		t.Errorf("with nothing to do: %v", got)
	}
	who := &identity{}
	c.set(&fakeSocket{id: "s"}, who, 5000)
	if got := c.step(); got != 5*time.Second {
		t.Errorf("with 5 s to go: %v", got)
	}
	wait(t, c.sooner)
	c.set(&fakeSocket{id: "t"}, &identity{}, 6000)
	select {
	case <-c.sooner:
		t.Error("woken for one that is later")
	default:
	}
	c.set(&fakeSocket{id: "s"}, who, 3_600_000)
	if got := c.step(); got != 6*time.Second {
		t.Errorf("with 6 s to go: %v", got)
	}
	if got := c.at(6000); !slices.Equal(got, []string{"end t 6000"}) {
		t.Errorf("%v", got)
	}
	if got := c.step(); got != maxSleep {
		t.Errorf("with an hour to go: %v", got)
	}
}

// TestExpiryOfASocket: a client is asked for a newer token once, and told why it is
// disconnected; one that was renewed in that moment is not.
func TestExpiryOfASocket(t *testing.T) {
	a := newTestApp() // warning 60 s, leeway 30 s
	now := testNow
	a.expiries.now = func() time.Time { return now }
	s := a.socket("u1")
	exp := testNow.Add(2 * time.Minute).UnixMilli()
	identityOf(s).grant.Store(&grant{Expires: exp})
	a.admitted(s)
	check := func(after time.Duration, want ...string) {
		t.Helper()
		now = testNow.Add(after)
		a.expiries.step()
		if got := s.emitted(); !slices.Equal(got, want) {
			t.Fatalf("after %v: %v, want %v", after, got, want)
		}
	}
	warning := fmt.Sprintf(`["token_expiring",{"expires":%d}]`, exp)
	check(59 * time.Second)
	check(time.Minute, warning)
	check(149*time.Second, warning)
	check(150*time.Second, warning, fmt.Sprintf(`["token_expired",{"expires":%d}]`, exp), "closed: token_expired")
	a.disconnected(s, "server namespace disconnect")

	renewed := a.socket("u2")
	identityOf(renewed).grant.Store(&grant{Expires: exp + 1})
	endExpired(renewed, exp)
	if got := renewed.emitted(); len(got) > 0 {
		t.Errorf("renewed in that moment, and told %v", got)
	}
}

// TestIdentityTravels: what a token says goes along with a socket, to another node or
// into its session.
func TestIdentityTravels(t *testing.T) {
	for _, g := range []*grant{nil, {Expires: 5}, {Join: patterns{}}, {Join: patterns{"a", "b*"}, Publish: patterns{}, Expires: 7}, {Publish: patterns{"*"}}} {
		who := &identity{User: "u1"}
		who.grant.Store(g)
		b, err := json.Marshal(who)
		if err != nil {
			t.Fatal(err)
		}
		back := restored(nil, b)
		got := back.grant.Load()
		if back.User != "u1" || !g.sameRooms(got) || g.expires() != got.expires() || (got == nil) != (g == nil) {
			t.Errorf("%s became %+v", b, got)
		}
	}
	if b, _ := json.Marshal(&identity{User: "u1"}); string(b) != `{"user":"u1"}` {
		t.Errorf("without a grant: %s", b)
	}
}

// BenchmarkExpiry is what a connect and a disconnect cost with 100,000 sockets whose tokens expire.
func BenchmarkExpiry(b *testing.B) {
	c := newClockedExpiries(time.Minute, 30*time.Second)
	s := &fakeSocket{id: "s"}
	for i := range 100_000 {
		c.set(s, &identity{}, int64(3_600_000+i*7919%100_000))
	}
	who := &identity{}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.set(s, who, int64(3_600_000+i*7919%100_000))
		c.remove(who)
	}
}
