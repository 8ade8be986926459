package hostile

import (
	"bufio"
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Outcome is how an attack ended.
type Outcome int

// Outcomes.
const (
	Failed  Outcome = iota // no connection came about
	Refused                // the node said no: an HTTP status, a close frame, an error of Socket.IO
	Ended                  // the node ended the connection without a word
	Served                 // the node answered as it does to honest clients
	Left                   // the attacker went away
	outcomes
)

// Count is what became of the attacks of one kind.
type Count struct {
	Begun   int           `json:"begun"`
	Most    int           `json:"most_at_a_time"`
	Holds   int           `json:"holds_bytes"` // what each may make the node keep
	Results [outcomes]int `json:"failed_refused_ended_served_left"`
}

// Tally is what a process of attackers did.
type Tally struct {
	Kinds   map[string]*Count `json:"kinds"`
	Skipped int               `json:"skipped"` // attacks that did not begin because too many were under way
}

// Bound is the most that all attackers together made the node keep at a time, in bytes.
func (t *Tally) Bound() (sum int64) {
	for _, c := range t.Kinds {
		sum += int64(c.Most) * int64(c.Holds)
	}
	return sum
}

// Begun is the number of all attacks.
func (t *Tally) Begun() (sum int) {
	for _, c := range t.Kinds {
		sum += c.Begun
	}
	return sum
}

// Run attacks as planned, until the time is over or ctx ends, and returns when all attacks have ended.
func Run(ctx context.Context, p Plan) (*Tally, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.For)
	defer cancel()
	t := &Tally{Kinds: map[string]*Count{}}
	all := kinds()
	for _, k := range all {
		t.Kinds[k.name] = &Count{Holds: k.holds(&p)}
	}
	var mu sync.Mutex // guards t and under
	under, total := map[string]int{}, 0
	var running sync.WaitGroup
	tick := time.NewTicker(max(time.Duration(float64(time.Second)/p.Rate), time.Millisecond))
	defer tick.Stop()
	began, done := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			running.Wait()
			return t, nil
		case <-tick.C:
		}
		for ; done < int(time.Since(began).Seconds()*p.Rate); done++ {
			k := choose(all)
			mu.Lock()
			if total >= p.Most {
				t.Skipped++
				mu.Unlock()
				continue
			}
			c := t.Kinds[k.name]
			c.Begun++
			under[k.name]++
			total++
			c.Most = max(c.Most, under[k.name])
			mu.Unlock()
			running.Go(func() {
				o := perform(ctx, &p, k)
				mu.Lock()
				defer mu.Unlock()
				under[k.name]--
				total--
				c.Results[o]++
			})
		}
	}
}

// perform does one attack on a connection of its own.
func perform(ctx context.Context, p *Plan, k *kind) Outcome {
	ctx, cancel := context.WithTimeout(ctx, p.Hold)
	defer cancel()
	a := &attack{plan: p, ctx: ctx}
	defer a.close()
	if !a.dial() {
		return Failed
	}
	return k.do(a)
}

// attack is one attack that is under way. It is for one goroutine.
type attack struct {
	plan  *Plan
	ctx   context.Context
	conns []net.Conn // all that were dialled; the last is the one that is used
	nc    net.Conn
	in    *bufio.Reader
}

func (a *attack) close() {
	for _, nc := range a.conns {
		_ = nc.Close()
	}
}

// dial opens another connection, from any of the addresses.
func (a *attack) dial() bool {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source(rand.IntN(a.plan.Sources)))}}
	nc, err := d.DialContext(a.ctx, "tcp", a.plan.Addr)
	if err != nil {
		return false
	}
	if until, ok := a.ctx.Deadline(); ok {
		_ = nc.SetDeadline(until)
	}
	a.conns = append(a.conns, nc)
	a.nc, a.in = nc, bufio.NewReader(nc)
	return true
}

// write sends bytes; false when the node, or the time, has ended the connection.
func (a *attack) write(b []byte) bool {
	_, err := a.nc.Write(b)
	return err == nil
}

// drip writes a byte of text now and then, until the connection or the time is over.
func (a *attack) drip(text byte) Outcome {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return Left
		case <-tick.C:
		}
		if !a.write([]byte{text}) {
			return a.gone()
		}
	}
}

// gone is the outcome where the connection ended, or the time, of which either a write or a read, or ctx, is told first.
func (a *attack) gone() Outcome {
	if until, ok := a.ctx.Deadline(); a.ctx.Err() != nil || ok && !time.Now().Before(until) {
		return Left
	}
	return Ended
}
