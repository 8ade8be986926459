package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

const tailLife = 10 * time.Second // how long a tail is kept that nobody asks for

// errOtherEpoch says that the journal began anew while it was read.
var errOtherEpoch = errors.New("state: the journal began anew")

// readCall is one call of Read.
type readCall struct {
	ns     string
	after  socketio.Offset
	called time.Time
	done   func([]socketio.JournalEntry, socketio.Offset, error)
}

// tails reads journals for those who missed something.
type tails struct {
	s    *Sessions
	life time.Duration
	wake chan struct{} // capacity 1: there are calls

	// Owned by run.
	tails  map[string]*tail // by namespace
	client *client          // made with the first reading
	max    int              // bound of a tail's entries; tests only

	mu      sync.Mutex // guards the rest; taken alone, never held across I/O or a callback
	calls   []*readCall
	ended   bool
	vouched map[vouchKey][]vouch
}

func newTails(s *Sessions) *tails {
	return &tails{
		s: s, life: tailLife, wake: make(chan struct{}, 1), tails: make(map[string]*tail), max: tailEntries,
		vouched: make(map[vouchKey][]vouch),
	}
}

// Read gets all entries of a namespace's journal after a position, up to end, the
// journal's end at a moment after the call. Slices are shared and must not be
// written to. Where the position is of another epoch than end, there are none:
// they cannot be compared. The error is socketio.ErrTooMuch if these are more than
// 200,000 entries or 64 MiB, socketio.ErrTrimmed if some of them may be gone,
// ErrUnavailable if Redis was away for 5 s. What is older than was proved to be
// received by the client of a session claimed within the last half minute may be
// gone.
func (s *Sessions) Read(ns string, after socketio.Offset, done func(entries []socketio.JournalEntry, end socketio.Offset, err error)) {
	t := s.tails
	t.mu.Lock()
	ended := t.ended
	if !ended {
		t.calls = append(t.calls, &readCall{ns: ns, after: after, called: time.Now(), done: done})
	}
	t.mu.Unlock()
	if ended {
		go done(nil, socketio.Offset{}, ErrClosed)
		return
	}
	s.metrics.JournalReadCallers.Inc()
	notify(t.wake)
}

// run serves calls until ctx ends.
func (t *tails) run(ctx context.Context) {
	defer t.end()
	tick := time.NewTicker(max(time.Millisecond, t.life/10))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			t.forget(now)
		case <-t.wake:
			t.mu.Lock()
			calls := t.calls
			t.calls = nil
			t.mu.Unlock()
			for len(calls) > 0 { // all of one namespace at a time
				ns := calls[0].ns
				var these []*readCall
				calls = slices.DeleteFunc(calls, func(c *readCall) bool {
					if c.ns != ns {
						return false
					}
					these = append(these, c)
					return true
				})
				t.serve(ctx, ns, these)
			}
		}
	}
}

// serve reads what the calls ask for and answers them.
func (t *tails) serve(ctx context.Context, ns string, calls []*readCall) {
	var wait backoff
	for {
		err := t.bring(ctx, ns, calls)
		if err == nil {
			break
		}
		if lostConnection(err) && !errors.Is(err, errOtherEpoch) {
			t.s.link.suspect()
		}
		calls = t.patient(ctx, calls, err)
		if len(calls) == 0 {
			return
		}
		_ = wait.sleep(ctx) // if it ends, so do the calls
	}
	tail, now := t.tails[ns], time.Now()
	for _, c := range calls {
		if tail == nil { // there is no journal
			c.done(nil, socketio.Offset{}, nil)
			continue
		}
		c.done(tail.after(c.after, t.need(ns, c.after, now)))
	}
}

// patient ends the calls that wait no longer for a reading that failed, and
// returns the others.
func (t *tails) patient(ctx context.Context, calls []*readCall, err error) []*readCall {
	late := time.Now().Add(-t.s.patience)
	return slices.DeleteFunc(calls, func(c *readCall) bool {
		switch {
		case ctx.Err() != nil:
			c.done(nil, socketio.Offset{}, ErrClosed)
		case c.called.Before(late):
			c.done(nil, socketio.Offset{}, fmt.Errorf("%w: %w", ErrUnavailable, err))
		default:
			return false
		}
		return true
	})
}

// bring has the namespace's tail reach from the first position asked for to the
// journal's present end; without a journal there is none.
func (t *tails) bring(ctx context.Context, ns string, calls []*readCall) error {
	c, err := t.connected()
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	epoch, err := c.Do(call, c.B().Hget().Key(t.s.journal.hashKey()).Field("epoch").Build()).ToString()
	cancel()
	if rueidis.IsRedisNil(err) {
		delete(t.tails, ns)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	tail := t.tails[ns]
	if tail == nil || tail.epoch != epoch {
		tail = newTail(epoch)
		tail.maxEntries = t.max
		t.tails[ns] = tail
	}
	tail.used = time.Now()
	first, asked := socketio.Offset{}, false
	for _, c := range calls {
		if c.after.Epoch == epoch && (!asked || first.After(c.after)) {
			first, asked = c.after, true
		}
	}
	if !asked {
		return nil
	}
	if tail.started() {
		if err := t.forward(ctx, c, ns, tail); err != nil {
			delete(t.tails, ns)
			return err
		}
		if tail = t.tails[ns]; tail.started() && !tail.from.After(first) {
			return nil
		}
	}
	if err := t.backward(ctx, c, ns, tail, first); err != nil {
		delete(t.tails, ns)
		return err
	}
	return nil
}

// forward reads what was added since.
func (t *tails) forward(ctx context.Context, c *client, ns string, tail *tail) error {
	for {
		n := tail.pageSize()
		p, err := t.page(ctx, c, ns, tail, c.B().Xrange().Key(t.s.journal.streamKey(ns)).
			Start("("+idOf(tail.to)).End("+").Count(int64(n)).Build())
		if err != nil {
			return err
		}
		if p.cut > tail.to.Ms && p.read > 0 { // something in between may be gone
			fresh := newTail(tail.epoch)
			fresh.maxEntries, fresh.used = tail.maxEntries, tail.used
			t.tails[ns] = fresh
			return nil
		}
		if p.read > 0 {
			tail.extend(p.entries, p.last)
		}
		if p.read < n {
			return nil
		}
	}
}

// backward reads what was before, down to first or to what is too much.
func (t *tails) backward(ctx context.Context, c *client, ns string, tail *tail, first socketio.Offset) error {
	for {
		end := "+"
		if tail.started() {
			end = idOf(tail.from)
		}
		n := tail.pageSize()
		p, err := t.page(ctx, c, ns, tail, c.B().Xrevrange().Key(t.s.journal.streamKey(ns)).
			End(end).Start("("+idOf(first)).Count(int64(n)).Build())
		if err != nil {
			return err
		}
		newest, oldest := p.first, p.last
		slices.Reverse(p.entries)
		switch {
		case tail.started():
		case p.read > 0:
			tail.start(newest)
		default:
			tail.start(first)
		}
		if p.read < n {
			tail.precede(p.entries, first, p.cut)
			return nil
		}
		if len(p.entries) > 0 && p.entries[0].Offset == oldest { // what is before it is not known: it comes with the next page
			p.entries = p.entries[1:]
		}
		tail.precede(p.entries, oldest, p.cut)
		if tail.from.After(oldest) {
			return nil
		}
	}
}

// tailPage is what one command read.
type tailPage struct {
	entries     []socketio.JournalEntry // in the order of the answer
	read        int                     // how many it has, including those that are no messages
	first, last socketio.Offset         // of the answer
	cut         uint64                  // from that time on, in milliseconds, nothing had been trimmed
}

// page runs one XRANGE or XREVRANGE and makes sure of the epoch it ran in: epochs
// do not come back.
func (t *tails) page(ctx context.Context, c *client, ns string, tail *tail, command rueidis.Completed) (p tailPage, err error) {
	t.s.metrics.JournalReads.Inc()
	started := time.Now()
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	stream := t.s.journal.streamKey(ns)
	results := c.DoMulti(call, command,
		c.B().Hmget().Key(t.s.journal.hashKey()).Field("epoch", "cut:"+stream).Build())
	t.s.metrics.Journal[metrics.JournalRead].Observe(time.Since(started).Seconds())
	rows, err := results[0].AsXRange()
	if err != nil {
		return p, fmt.Errorf("read the journal: %w", err)
	}
	about, err := results[1].AsStrSlice()
	if err != nil || len(about) != 2 {
		return p, answered("HMGET", len(about), 2, err)
	}
	if about[0] != tail.epoch {
		return p, errOtherEpoch
	}
	if about[1] != "" {
		if p.cut, err = strconv.ParseUint(about[1], 10, 64); err != nil {
			return p, fmt.Errorf("%w: cut %q", errAnswer, about[1])
		}
	}
	p.read = len(rows)
	for i := range rows {
		at, err := entryAt(tail.epoch, rows[i].ID)
		if err != nil {
			return p, err
		}
		if p.last = at; i == 0 {
			p.first = at
		}
		if payload, ok := rows[i].FieldValues["m"]; ok {
			p.entries = append(p.entries, socketio.JournalEntry{Offset: at, Payload: []byte(payload)})
		}
	}
	return p, nil
}

func idOf(o socketio.Offset) string { return string(o.AppendID(nil)) }

// connected returns the client, made once Redis can be reached.
func (t *tails) connected() (*client, error) {
	if err := t.s.link.down(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if t.client != nil {
		return t.client, nil
	}
	c, err := newClient(t.s.link.options, 0, func(opt *rueidis.ClientOption) {
		opt.ClientName = t.s.link.name + "-journal"
		opt.DisableCache = true
		opt.AlwaysPipelining = true
		opt.PipelineMultiplex = -1
		opt.ReadBufferEachConn, opt.WriteBufferEachConn = 256<<10, 32<<10
	})
	if err != nil {
		return nil, err
	}
	t.client = c
	return c, nil
}

// forget lets tails go that nobody asked for lately, and what was vouched for.
func (t *tails) forget(now time.Time) {
	for ns, tail := range t.tails {
		if now.Sub(tail.used) >= t.life {
			delete(t.tails, ns)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, list := range t.vouched {
		if list = unexpired(list, now); len(list) == 0 {
			delete(t.vouched, key)
		} else {
			t.vouched[key] = list
		}
	}
}

// end fails what waits, and every later call.
func (t *tails) end() {
	t.mu.Lock()
	t.ended = true
	rest := t.calls
	t.calls = nil
	t.mu.Unlock()
	for _, c := range rest {
		c.done(nil, socketio.Offset{}, ErrClosed)
	}
	if t.client != nil {
		t.client.end()
	}
}
