package main

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
)

// someConn is a connection that is only compared.
type someConn struct {
	net.Conn
	i int
}

// TestPendingAgainstList compares the rule with one that looks through a list, over random arrivals.
func TestPendingAgainstList(t *testing.T) {
	const most = 5
	random := rand.New(rand.NewPCG(3, 4))
	p := newPending(most)
	var naive []arrival
	now := time.Unix(0, 0)
	outcomes := map[string]int{}
	for i := range 20_000 {
		now = now.Add(time.Duration(random.Int64N(int64(usualPatience / 3))))
		if random.IntN(2) == 0 && len(naive) > 0 { // one sends its request, or goes
			k := random.IntN(len(naive))
			if !p.remove(naive[k].conn) {
				t.Fatalf("step %d: %v is not pending", i, naive[k].conn)
			}
			if p.remove(naive[k].conn) {
				t.Fatalf("step %d: %v is pending twice", i, naive[k].conn)
			}
			naive = slices.Delete(naive, k, k+1)
		}
		victim, wait := p.room(now)
		switch {
		case len(naive) < most:
			outcomes["room"]++
			if victim != nil || wait != 0 {
				t.Fatalf("step %d: %v, %v with %d pending", i, victim, wait, len(naive))
			}
		case now.Sub(naive[0].at) >= usualPatience:
			outcomes["victim"]++
			if victim != naive[0].conn || wait != 0 {
				t.Fatalf("step %d: %v, %v; the victim is %v", i, victim, wait, naive[0].conn)
			}
			naive = naive[1:]
		default:
			outcomes["wait"]++
			if want := usualPatience - now.Sub(naive[0].at); victim != nil || wait != want {
				t.Fatalf("step %d: %v, %v; the wait is %v", i, victim, wait, want)
			}
			continue
		}
		c := &someConn{i: i}
		p.add(arrival{conn: c, at: now}, now)
		naive = append(naive, arrival{conn: c, at: now})
		if p.queue.Len() != len(naive) || len(p.where) != len(naive) || !inOrder(p.queue) {
			t.Fatalf("step %d: %d in the queue and %d in the map, of %d", i, p.queue.Len(), len(p.where), len(naive))
		}
	}
	if outcomes["room"] == 0 || outcomes["victim"] == 0 || outcomes["wait"] == 0 {
		t.Errorf("the arrivals do not try everything: %v", outcomes)
	}
}

func inOrder(l *list.List) bool {
	for e := l.Front(); e != nil && e.Next() != nil; e = e.Next() {
		if e.Value.(arrival).at.After(e.Next().Value.(arrival).at) {
			return false
		}
	}
	return true
}

// caller is a connection that is only compared, and knows when it came.
type caller struct {
	someConn
	at   time.Time
	asks bool
}

// TestEntranceUnderAFlood: however many connections per second send nothing, or a part of a request, one that asks
// waits no longer than they may be silent, and some time for its place. Nobody who has sent something loses it before
// it was read.
func TestEntranceUnderAFlood(t *testing.T) {
	const most, step = 512, 5 * time.Millisecond
	for _, f := range []struct {
		perSecond int
		part      bool // a part of a request is sent, and read
	}{{100, false}, {200, false}, {1000, false}, {10_000, false}, {200, true}, {1000, true}, {1500, true}} {
		t.Run(fmt.Sprintf("perSecond=%d/part=%v", f.perSecond, f.part), func(t *testing.T) {
			e := newEntrance(most, func() int { return 60_000 }, metrics.New(prometheus.NewRegistry(), "test"), quiet)
			placed := map[net.Conn]bool{}
			e.pending.unread = func(c net.Conn) bool { // who has a place is read at once, but who asks only in the next step
				k := c.(*caller)
				return k.asks || f.part && !placed[c]
			}
			start := time.Unix(0, 0)
			var asking []*caller
			var worst time.Duration
			due, n := 0, 0
			for now := start; now.Sub(start) < 20*time.Second; now = now.Add(step) {
				come := func(asks bool) {
					n++
					e.waiting = append(e.waiting, arrival{conn: &caller{someConn{i: n}, now, asks}, at: now})
				}
				for due += f.perSecond; due >= int(time.Second/step); due -= int(time.Second / step) {
					come(false)
				}
				come(true)
				for _, c := range asking {
					e.pending.remove(c)
					worst = max(worst, now.Sub(c.at))
				}
				asking = asking[:0]
				for {
					c, victim, _ := e.next(now)
					if victim != nil && victim.(*caller).asks {
						t.Fatal("one that asks is closed")
					}
					if c != nil {
						placed[c] = true
						if k := c.(*caller); k.asks {
							asking = append(asking, k)
						}
					}
					if c == nil && victim == nil {
						break
					}
				}
			}
			if most := usualPatience + time.Second; worst == 0 || worst > most {
				t.Errorf("one that asks waited %v, more than %v; %d wait at the end", worst, most, len(e.waiting))
			}
		})
	}
}

// TestPendingUnread: who has sent what this node did not read yet keeps its place, and loses it when it was read.
func TestPendingUnread(t *testing.T) {
	p := newPending(1)
	sent := true
	p.unread = func(net.Conn) bool { return sent }
	c, now := &someConn{}, time.Unix(0, 0)
	p.add(arrival{conn: c, at: now}, now)
	now = now.Add(usualPatience)
	if victim, wait := p.room(now); victim != nil || wait != usualGrace {
		t.Errorf("%v, %v", victim, wait)
	}
	sent = false
	if victim, wait := p.room(now); victim != nil || wait != usualGrace {
		t.Errorf("%v, %v before the grace is over", victim, wait)
	}
	if victim, wait := p.room(now.Add(usualGrace)); victim != net.Conn(c) || wait != 0 {
		t.Errorf("%v, %v after it", victim, wait)
	}
}

// door is an http.Server behind an entrance.
type door struct {
	t    *testing.T
	m    *metrics.Metrics
	e    *entrance
	addr string
	l    net.Listener
}

func openDoor(t *testing.T, most int, patience time.Duration, h http.HandlerFunc) *door {
	t.Helper()
	leak.Check(t)
	m := metrics.New(prometheus.NewRegistry(), "test")
	e := newEntrance(most, func() int { return 4 }, m, quiet)
	e.pending.patience = patience
	e.pending.grace = min(patience, usualGrace)
	inner, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := e.listener(inner)
	srv := newPublicServer(h, e, 16<<10, 10*time.Second, quiet)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serving ended with %v", err)
		}
	})
	return &door{t, m, e, inner.Addr().String(), l}
}

func (d *door) dial() net.Conn {
	d.t.Helper()
	c, err := net.DialTimeout("tcp", d.addr, wire.Timeout)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(wire.Timeout))
	return c
}

func (d *door) until(what string, ok func() bool) {
	d.t.Helper()
	deadline := time.Now().Add(wire.Timeout)
	for !ok() {
		if time.Now().After(deadline) {
			d.t.Fatalf("not %s after %v", what, wire.Timeout)
		}
		time.Sleep(time.Millisecond) // polling, bounded by the deadline
	}
}

func (d *door) pending(n float64) {
	d.t.Helper()
	d.until(fmt.Sprintf("%v pending", n), func() bool { return testutil.ToFloat64(d.m.Pending) == n })
}

const plainRequest = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// ask sends a request and reads the head of the answer.
func ask(t *testing.T, c net.Conn) string {
	t.Helper()
	if _, err := io.WriteString(c, plainRequest); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func ok(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

// TestEntranceWaits: beyond the bound nobody gets a place until one has sent its request or is gone, and
// whoever waits loses nothing, here or, beyond what may wait here, in the kernel.
func TestEntranceWaits(t *testing.T) {
	d := openDoor(t, 2, time.Hour, ok)
	first, second := d.dial(), d.dial()
	d.pending(2)
	var others []net.Conn
	for range 10 {
		others = append(others, d.dial())
	}
	d.pending(2 + 4)
	d.until("full", func() bool { return testutil.ToFloat64(d.m.PendingFull) == 1 })
	ask(t, first)
	for i, c := range others {
		if got := ask(t, c); !strings.HasPrefix(got, "HTTP/1.1 204") {
			t.Fatalf("the one that waited as number %d got %q", i, got)
		}
	}
	_ = second.Close()
	d.pending(0)
	if n := testutil.ToFloat64(d.m.Refusals[metrics.RefusalNoRequest]); n != 0 {
		t.Errorf("%v were closed", n)
	}
}

// TestEntranceFlood: connections that send nothing cannot keep out one that does; they make room, oldest first.
func TestEntranceFlood(t *testing.T) {
	d := openDoor(t, 3, 10*time.Millisecond, ok)
	var silent []net.Conn
	for range 9 {
		silent = append(silent, d.dial())
	}
	ask(t, d.dial())
	closed := testutil.ToFloat64(d.m.Refusals[metrics.RefusalNoRequest])
	if closed < 3 { // there are 3 places, and 4 may wait
		t.Errorf("%v were closed to let in the tenth", closed)
	}
	if _, err := silent[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the oldest is not closed: %v", err)
	}
}

// TestEntranceParked: requests that wait for their answer, as polls do, take nobody's place.
func TestEntranceParked(t *testing.T) {
	arrived, let := make(chan struct{}), make(chan struct{})
	d := openDoor(t, 1, time.Hour, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-let
		ok(w, r)
	})
	defer close(let)
	for range 5 {
		if _, err := io.WriteString(d.dial(), plainRequest); err != nil {
			t.Fatal(err)
		}
		<-arrived
	}
	d.pending(0)
}

// TestEntranceLeavesFiles: with the default, all that a full node may hold beside its conns fits into
// the descriptors that MAX_CONNS leaves by itself, with a hundred for the node's own.
func TestEntranceLeavesFiles(t *testing.T) {
	cfg, err := LoadConfig(map[string]string{})
	if err != nil {
		t.Fatal(err)
	}
	if n := cfg.MaxPending + fewWaiting + cfg.MaxPending/2; n > spareFiles-100 {
		t.Errorf("%d connections may be no conns on a full node, of %d descriptors", n, spareFiles)
	}
}

// TestEntranceIdle: beyond the bound, connections end with their answer, which says so.
func TestEntranceIdle(t *testing.T) {
	d := openDoor(t, 4, time.Hour, ok) // two of them idle
	keeps := func(c net.Conn) bool {
		return !strings.Contains(ask(t, c), "\r\nConnection: close\r\n")
	}
	first, second := d.dial(), d.dial()
	if !keeps(first) || !keeps(second) {
		t.Fatal("connections within the bound are not kept")
	}
	third := d.dial()
	d.until("crowded", func() bool { // idle is told when the answer has been written
		d.e.mu.Lock()
		defer d.e.mu.Unlock()
		return len(d.e.idle) == 2
	})
	if keeps(third) {
		t.Error("a third connection is kept")
	}
	if _, err := third.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("it does not end: %v", err)
	}
	_ = first.Close()
	d.until("room again", func() bool {
		c := d.dial()
		defer c.Close()
		return keeps(c)
	})
}

// TestEntranceCloses: the end of the listener ends Accept, and connections that wait for a place.
func TestEntranceCloses(t *testing.T) {
	leak.Check(t)
	m := metrics.New(prometheus.NewRegistry(), "test")
	inner, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := newEntrance(1, func() int { return 4 }, m, quiet)
	e.pending.patience = time.Hour
	l := e.listener(inner)
	var clients [2]net.Conn
	for i := range clients {
		if clients[i], err = net.DialTimeout("tcp", inner.Addr().String(), wire.Timeout); err != nil {
			t.Fatal(err)
		}
		defer clients[i].Close()
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	for testutil.ToFloat64(m.PendingFull) == 0 {
		time.Sleep(time.Millisecond) // polling; the test's timeout bounds it
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept ended with %v", err)
	}
	if n := testutil.ToFloat64(m.AcceptErrors); n != 0 {
		t.Errorf("the end counts as %v errors", n)
	}
	_ = clients[1].SetReadDeadline(time.Now().Add(wire.Timeout))
	if _, err := clients[1].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("who waited is not told: %v", err)
	}
}
