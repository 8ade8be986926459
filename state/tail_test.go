package state

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/socketio"
)

func (n *node) journalReads() float64 { return testutil.ToFloat64(n.metrics.JournalReads) }

// many adds numbered entries and returns their positions.
func (b *backend) many(t testing.TB, from, to int) (out []socketio.Offset) {
	t.Helper()
	for i := from; i < to; i++ {
		out = append(out, b.append(t, strconv.Itoa(i)))
	}
	return out
}

func numbers(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, strconv.Itoa(i))
	}
	return out
}

func TestReadsShareATail(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.sessionNode(t, "nodeAAAA", nil)
		at := b.many(t, 0, 350)
		expect := func(after, to int) {
			t.Helper()
			r := n.read(t, at[after])
			if r.err != nil || r.end != at[to-1] || !slices.Equal(r.payloads(), numbers(after+1, to)) {
				t.Errorf("after %d: %d entries up to %v, %v; want %d up to %v", after, len(r.entries), r.end, r.err, to-after-1, at[to-1])
			}
		}
		expect(100, 350) // several pages
		expect(100, 350)
		expect(340, 350)
		expect(349, 350)
		for _, after := range []int{99, 50, 49, 0} { // older ones
			expect(after, 350)
		}
		at = append(at, b.many(t, 350, 500)...)
		expect(400, 500)
		expect(0, 500)

		// Callers who wait together are served together.
		before := n.journalReads()
		n.Sessions().tails.mu.Lock()
		results := make(chan int, 1000)
		for i := range 500 {
			n.Sessions().tails.calls = append(n.Sessions().tails.calls, &readCall{
				ns: "/", after: at[i],
				done: func(entries []socketio.JournalEntry, _ socketio.Offset, _ error) { results <- len(entries) },
			})
		}
		n.Sessions().tails.mu.Unlock()
		notify(n.Sessions().tails.wake)
		for i := range 500 {
			if got := await(t, "read", results); got != 499-i {
				t.Fatalf("%d entries after %d", got, i)
			}
		}
		if got := n.journalReads() - before; got != 1 {
			t.Errorf("%v commands", got)
		}
	})
}

func TestReadBounds(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.sessionNode(t, "nodeAAAA", func(s *Sessions) { s.tails.max = 300 })
		at := b.many(t, 0, 500)
		if r := n.read(t, at[100]); !errors.Is(r.err, socketio.ErrTooMuch) {
			t.Errorf("%d entries, %v", len(r.entries), r.err)
		}
		if r := n.read(t, at[199]); r.err != nil || !slices.Equal(r.payloads(), numbers(200, 500)) {
			t.Errorf("%d entries, %v", len(r.entries), r.err)
		}
		at = append(at, b.many(t, 500, 600)...)
		if r := n.read(t, at[598]); !slices.Equal(r.payloads(), numbers(599, 600)) {
			t.Errorf("%d entries, %v", len(r.entries), r.err)
		}
		if r := n.read(t, at[298]); !errors.Is(r.err, socketio.ErrTooMuch) {
			t.Errorf("%d entries, %v", len(r.entries), r.err)
		}
	})
}

// What may have been trimmed before it was read is not passed over.
func TestReadOfATrimmedJournal(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.sessionNode(t, "nodeAAAA", nil)
		at := b.many(t, 0, 3)
		eventually(t, "the clock moves", func() error {
			if uint64(b.now(t)) <= at[2].Ms {
				return errNotYet
			}
			return nil
		})
		at = append(at, b.many(t, 3, 6)...)
		b.do(t, "XTRIM", "socket.io-journal#/#", "MINID", fmt.Sprint(at[3].Ms))
		b.do(t, "HSET", "socket.io-journal", "cut:socket.io-journal#/#", fmt.Sprint(at[3].Ms))
		if r := n.read(t, at[3]); r.err != nil || !slices.Equal(r.payloads(), numbers(4, 6)) {
			t.Errorf("%q, %v", r.payloads(), r.err)
		}
		if r := n.read(t, at[0]); !errors.Is(r.err, socketio.ErrTrimmed) {
			t.Errorf("%q, %v", r.payloads(), r.err)
		}
		if r := n.read(t, at[3]); r.err != nil || !slices.Equal(r.payloads(), numbers(4, 6)) {
			t.Errorf("%q, %v", r.payloads(), r.err)
		}
		// Somebody who is known to have received the rest goes on from there.
		n.Sessions().tails.vouch("/", at[1], at[3].Ms)
		if r := n.read(t, at[1]); r.err != nil || !slices.Equal(r.payloads(), numbers(3, 6)) {
			t.Errorf("%q, %v", r.payloads(), r.err)
		}
	})
}

func TestReadForgets(t *testing.T) {
	b := inProcess(t)
	n := b.sessionNode(t, "nodeAAAA", func(s *Sessions) { s.tails.life = time.Millisecond })
	at := b.many(t, 0, 2)
	n.read(t, at[0])
	before := n.journalReads()
	b.do(t, "DEL", "socket.io-journal#/#")
	eventually(t, "the tail is forgotten", func() error {
		if r := n.read(t, at[0]); len(r.entries) > 0 {
			return errNotYet
		}
		return nil
	})
	if n.journalReads() == before {
		t.Error("nothing was read")
	}
}

func TestReadWithoutAJournal(t *testing.T) {
	b := inProcess(t)
	n := b.sessionNode(t, "nodeAAAA", nil)
	epoch := b.text(t, "HGET", "socket.io-journal", "epoch")
	after := socketio.Offset{Epoch: epoch}
	if r := n.read(t, after); r.err != nil || len(r.entries) != 0 || r.end != after {
		t.Errorf("an empty journal: %+v", r)
	}
	if r := n.read(t, socketio.Offset{Epoch: "epoch001"}); r.err != nil || r.end.Epoch != epoch {
		t.Errorf("another epoch: %+v", r)
	}
	if r := n.read(t, socketio.Offset{}); r.err != nil || r.end.Epoch != epoch || len(r.entries) != 0 {
		t.Errorf("no position: %+v", r)
	}
}
