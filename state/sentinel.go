package state

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// sentinelTimeout bounds one question to the sentinels.
const sentinelTimeout = time.Second

// errUnnamed says that the sentinels do not name a master.
var errUnnamed = errors.New("state: no sentinel names the master")

// master is the server that sentinels name, and since which of their
// reconfigurations: the higher config-epoch is the later one.
// https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/#configuration-epochs
type master struct {
	server string // host:port; "" while none is known
	epoch  int64
}

// opinion is the answer of one sentinel.
type opinion struct {
	master
	err error // it has none
}

// believe returns the master by the answers of sentinels, of which there are count:
// the one that was named last. What was known before stands where only a
// minority answers and knows less, as one does that was cut off from the others.
func (known master) believe(answers []opinion, count int) (master, error) {
	var named []master
	errs := []error{errUnnamed}
	for _, a := range answers {
		if a.err == nil {
			named = append(named, a.master)
		} else {
			errs = append(errs, a.err)
		}
	}
	if len(named) == 0 {
		return master{}, errors.Join(errs...)
	}
	votes := make(map[master]int)
	for _, m := range named {
		votes[m]++
	}
	last := slices.MaxFunc(named, func(a, b master) int {
		return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(votes[a], votes[b]))
	})
	if known.server != "" && last.epoch < known.epoch && len(named) <= count/2 {
		return known, nil
	}
	return last, nil
}

// sentinels finds the master, connects to it, and ends connections to servers
// that are not the master any more: a server that was deposed while it was cut
// off takes itself for the master until a sentinel reaches it. Methods may be
// called from any goroutine.
type sentinels struct {
	address Address
	files   TLSFiles
	asking  sync.WaitGroup // questions that have no answer yet; added to under mu

	mu      sync.Mutex // guards the rest; never held across I/O
	clients []*client  // of each sentinel; nil before it was reached
	known   master
	open    map[*masterConn]struct{}
	ended   bool
}

func newSentinels(a Address, files TLSFiles) *sentinels {
	return &sentinels{address: a, files: files, clients: make([]*client, len(a.servers)), open: make(map[*masterConn]struct{})}
}

// masterConn is a connection to what was the master when it was opened.
type masterConn struct {
	net.Conn
	s      *sentinels
	server string
}

func (c *masterConn) Close() error {
	c.s.mu.Lock()
	delete(c.s.open, c)
	c.s.mu.Unlock()
	return c.Conn.Close()
}

// dial connects to the master.
func (s *sentinels) dial(ctx context.Context, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
	m, err := s.master(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := s.address.dialServer(ctx, d, s.files, m.server)
	if err != nil {
		return nil, err
	}
	c := &masterConn{Conn: raw, s: s, server: m.server}
	s.mu.Lock()
	current := s.known.server == m.server && !s.ended
	if current {
		s.open[c] = struct{}{}
	}
	s.mu.Unlock()
	if !current {
		_ = raw.Close() // nothing was sent
		return nil, fmt.Errorf("%w any more: it was %s", errUnnamed, m.server)
	}
	return c, nil
}

// enough reports whether no more answers need be waited for: a majority has
// named a master, and knows no less than was known before. After a failover
// most of them may be behind the one that has led it, which must be heard then.
func (known master) enough(answers []opinion, count int) bool {
	named, last := 0, int64(-1)
	for _, a := range answers {
		if a.err == nil {
			named, last = named+1, max(last, a.epoch)
		}
	}
	return len(answers) == count || named > count/2 && last >= known.epoch
}

// master asks all sentinels and returns what most of them say, or those that
// answer in time. Connections to another server are ended.
func (s *sentinels) master(ctx context.Context) (master, error) {
	ctx, cancel := context.WithTimeout(ctx, sentinelTimeout)
	count := len(s.address.servers)
	answers := make(chan opinion, count)
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		cancel()
		return master{}, ErrClosed
	}
	for i := range count {
		s.asking.Go(func() { answers <- s.ask(ctx, i) })
	}
	known := s.known
	s.mu.Unlock()
	defer cancel() // those that are late need not answer

	heard := hear(ctx, answers, func(heard []opinion) bool { return known.enough(heard, count) })
	s.mu.Lock()
	m, err := s.known.believe(heard, count)
	var deposed []*masterConn
	if err == nil {
		s.known = m
		for c := range s.open {
			if c.server != m.server {
				deposed = append(deposed, c)
			}
		}
	}
	s.mu.Unlock()
	for _, c := range deposed {
		_ = c.Close() // given up: nothing to do about an error
	}
	return m, err
}

// hear collects answers until they are enough. One that cannot be had before ctx
// ends, because the sentinel is still being connected to, is an error like others.
func hear(ctx context.Context, answers <-chan opinion, enough func([]opinion) bool) (heard []opinion) {
	for !enough(heard) {
		select {
		case a := <-answers:
			heard = append(heard, a)
		case <-ctx.Done():
			return append(heard, opinion{err: ctx.Err()})
		}
	}
	return heard
}

// ask asks one sentinel.
func (s *sentinels) ask(ctx context.Context, i int) opinion {
	m, err := s.query(ctx, i)
	if err != nil {
		return opinion{err: fmt.Errorf("sentinel %s: %w", s.address.servers[i], err)}
	}
	return opinion{master: m}
}

func (s *sentinels) query(ctx context.Context, i int) (master, error) {
	c, err := s.client(i)
	if err != nil {
		return master{}, err
	}
	results := c.DoMulti(ctx,
		c.B().Arbitrary("SENTINEL", "GET-MASTER-ADDR-BY-NAME").Args(s.address.master).Build(),
		c.B().Arbitrary("SENTINEL", "MASTER").Args(s.address.master).Build())
	server, err := results[0].AsStrSlice()
	if rueidis.IsRedisNil(err) {
		return master{}, fmt.Errorf("it watches no master %q", s.address.master)
	}
	if err != nil || len(server) != 2 {
		return master{}, answered("SENTINEL GET-MASTER-ADDR-BY-NAME", len(server), 2, err)
	}
	m := master{server: net.JoinHostPort(server[0], server[1])}
	facts, err := results[1].AsStrMap()
	if err == nil {
		m.epoch, err = strconv.ParseInt(facts["config-epoch"], 10, 64)
	}
	if err != nil {
		return master{}, fmt.Errorf("SENTINEL MASTER: %w", err)
	}
	return m, nil
}

// client returns the client of a sentinel, made when it is first reached; it connects again by itself.
func (s *sentinels) client(i int) (*client, error) {
	s.mu.Lock()
	c := s.clients[i]
	s.mu.Unlock()
	if c != nil {
		return c, nil
	}
	server := s.address.servers[i]
	c, err := newClient(redisOptions{
		name: server,
		base: rueidis.ClientOption{Username: s.address.sentinelUser, Password: s.address.sentinelPassword},
		dial: func(ctx context.Context, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return s.address.dialServer(ctx, d, s.files, server)
		},
	}, 0, func(opt *rueidis.ClientOption) {
		opt.DisableCache = true
		opt.PipelineMultiplex = -1
		opt.RingScaleEachConn = 4
		opt.ReadBufferEachConn, opt.WriteBufferEachConn = 8<<10, 1<<10
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	other, ended := s.clients[i], s.ended
	if other == nil && !ended {
		s.clients[i] = c
	}
	s.mu.Unlock()
	switch {
	case ended:
		c.end()
		return nil, ErrClosed
	case other != nil:
		c.end()
		return other, nil
	}
	return c, nil
}

// watch asks the sentinels every second until ctx ends, so that a master that
// was deposed is noticed also where it can still be reached; changed is called then.
func (s *sentinels) watch(ctx context.Context, log *slog.Logger, changed func()) {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	var before string
	silent := false
	for {
		m, err := s.master(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !silent:
			silent = true
			log.Warn("the sentinels do not say which Redis is the master: a failover would not be noticed", "error", err)
		case err == nil:
			if silent {
				silent = false
				log.Info("the sentinels answer again")
			}
			if m.server != before {
				log.Info("the sentinels name the master", "master", m.server, "before", before)
				before = m.server
				changed()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// end closes the connections to the sentinels and waits for all questions; dial fails from now on.
func (s *sentinels) end() {
	s.mu.Lock()
	s.ended = true
	clients := slices.Clone(s.clients)
	s.mu.Unlock()
	for _, c := range clients {
		if c != nil {
			c.end()
		}
	}
	s.asking.Wait()
}
