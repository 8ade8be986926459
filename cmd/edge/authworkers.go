package main

import "sync"

// workers runs what must not run on a poller, in order, on goroutines that end when
// there is nothing to do. Its methods may be called from any goroutine.
type workers struct {
	// Set when it is made, then read-only.
	max   int // goroutines
	bound int // of what waits

	mu      sync.Mutex // guards the rest; taken alone
	queue   []func()
	running int
}

// submit has f run soon; it reports false, and does nothing, if too much waits.
func (w *workers) submit(f func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) >= w.bound {
		return false
	}
	w.queue = append(w.queue, f)
	if w.running < w.max {
		w.running++
		go w.work()
	}
	return true
}

func (w *workers) work() {
	w.mu.Lock()
	for len(w.queue) > 0 {
		f := w.queue[0]
		w.queue[0] = nil
		w.queue = w.queue[1:]
		w.mu.Unlock()
		f()
		w.mu.Lock()
	}
	w.queue = nil
	w.running--
	w.mu.Unlock()
}
