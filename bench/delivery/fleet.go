package delivery

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stellara/edge/bench/guest"
)

// Fleet is the nodes as clients know them: where they are, which of them a load balancer would choose,
// and what is being done to them. Safe for concurrent use.
type Fleet struct {
	// Token makes what proves to the nodes who a user is; nil if they do not ask. It is set before anybody
	// connects.
	Token func(user string) string

	addrs []string
	phase atomic.Int64

	mu   sync.Mutex
	down []bool
}

// NewFleet knows the nodes at these addresses, all of them up, in phase 0.
func NewFleet(addrs []string) *Fleet { return &Fleet{addrs: addrs, down: make([]bool, len(addrs))} }

// Down makes a node one that clients do not connect to; Up undoes it.
func (f *Fleet) Down(node int) { f.set(node, true) }

// Up makes a node one to connect to.
func (f *Fleet) Up(node int) { f.set(node, false) }

func (f *Fleet) set(node int, down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down[node] = down
}

// Phase says in which phase of the test everything happens from now on.
func (f *Fleet) Phase(i int) { f.phase.Store(int64(i)) }

// hello is what a user says in CONNECT.
func (f *Fleet) hello(user string) guest.Hello {
	h := guest.Hello{User: user}
	if f.Token != nil {
		h.Token = f.Token(user)
	}
	return h
}

func (f *Fleet) now() int { return int(f.phase.Load()) }

// pick chooses a node that is up; any if none is.
func (f *Fleet) pick() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	var up []int
	for i, down := range f.down {
		if !down {
			up = append(up, i)
		}
	}
	if len(up) == 0 {
		return rand.IntN(len(f.addrs))
	}
	return up[rand.IntN(len(up))]
}

// pause waits, unless it is interrupted.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
