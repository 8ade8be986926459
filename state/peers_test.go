package state

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/internal/leak"
)

// peer starts a node that announces an address, with a lease of its own if it is not zero.
func (b *backend) peer(t testing.TB, id string, lease time.Duration) *node {
	t.Helper()
	n := b.open(t, id, nil)
	if lease > 0 {
		n.peers.lease = lease
	}
	n.Peers().Announce("addr of " + id)
	n.Bus().Open("/")
	n.run(t)
	eventually(t, "node is ready", n.Ready)
	eventually(t, "the secret is known", func() error {
		if n.Peers().Secret() == nil {
			return errNotYet
		}
		return nil
	})
	return n
}

// finds has the node look another one up, until it finds that.
func (n *node) finds(t testing.TB, id, want string) {
	t.Helper()
	eventually(t, n.id+" finds "+id, func() error {
		switch addr, err := n.Peers().Lookup(t.Context(), id); {
		case err != nil:
			return err
		case addr != want:
			return fmt.Errorf("found %q", addr)
		}
		return nil
	})
}

// findsNot has the node look another one up, until there is no such node.
func (n *node) findsNot(t testing.TB, id string) {
	t.Helper()
	eventually(t, n.id+" does not find "+id, func() error {
		if addr, err := n.Peers().Lookup(t.Context(), id); !errors.Is(err, ErrNoPeer) {
			return fmt.Errorf("found %q, %v", addr, err)
		}
		return nil
	})
}

// shareSecret waits until all nodes have the same one, which is in Redis.
func (b *backend) shareSecret(t testing.TB, nodes ...*node) string {
	t.Helper()
	var secret string
	eventually(t, "the nodes share a secret", func() error {
		secret = b.text(t, "GET", "socket.io-peer-secret")
		for _, n := range nodes {
			if got := string(n.Peers().Secret()); got != secret || len(got) < peerSecretLen {
				return fmt.Errorf("%s has %q, redis %q", n.id, got, secret)
			}
		}
		return nil
	})
	return secret
}

func TestPeersFindEachOther(t *testing.T) {
	leak.Check(t)
	backends(t, func(t *testing.T, b *backend) {
		one, two := b.peer(t, "nodeAAAA", 0), b.peer(t, "-ode_BBB", 0)
		silent := b.start(t, "nodeCCCC", nil)
		for _, n := range []*node{one, two, silent} {
			n.finds(t, "nodeAAAA", "addr of nodeAAAA")
			n.finds(t, "-ode_BBB", "addr of -ode_BBB")
			n.findsNot(t, "nodeCCCC")
		}
		b.shareSecret(t, one, two)
		if s := silent.Peers().Secret(); s != nil {
			t.Errorf("a node that announced nothing has the secret %q", s)
		}
		if err := silent.Peers().Withdraw(canceled(t)); err != nil {
			t.Errorf("withdraw what was not announced: %v", err)
		}
		if ttl := b.number(t, "PTTL", "socket.io-peer#nodeAAAA"); ttl <= 0 || ttl > defaultLease.Milliseconds() {
			t.Errorf("the address is there for %d ms", ttl)
		}

		if err := one.Peers().Withdraw(t.Context()); err != nil {
			t.Fatal(err)
		}
		if addr := b.text(t, "GET", "socket.io-peer#nodeAAAA"); addr != "" {
			t.Errorf("the address %q is there after it was withdrawn", addr)
		}
		c, _ := one.link.get()
		if err := one.peers.renew(t.Context(), c); err != nil {
			t.Error(err)
		}
		two.findsNot(t, "nodeAAAA")
		if err := one.Peers().Withdraw(t.Context()); err != nil {
			t.Errorf("withdraw again: %v", err)
		}
	})
}

func TestPeersOfImpossibleNames(t *testing.T) {
	b := realRedis(t)
	n := b.peer(t, "nodeAAAA", 0)
	before := b.calls(t, "mget")
	for _, name := range []string{"", "nodeAAA", "nodeAAAAA", "node AAA", "node\x00AAA", "nodé---", "secret##", strings.Repeat("x", 1<<20)} {
		if addr, err := n.Peers().Lookup(t.Context(), name); !errors.Is(err, ErrNoPeer) {
			t.Errorf("%.20q: %q, %v", name, addr, err)
		}
	}
	if got := b.calls(t, "mget"); got != before {
		t.Errorf("redis was asked %d times", got-before)
	}
}

// calls is how often Redis carried a command out.
func (b *backend) calls(t testing.TB, command string) int {
	t.Helper()
	_, after, _ := strings.Cut(b.text(t, "INFO", "commandstats"), "cmdstat_"+command+":calls=")
	digits, _, _ := strings.Cut(after, ",")
	n, _ := strconv.Atoi(digits)
	return n
}

// The address is renewed, goes when nobody renews it, and comes back.
func TestPeersAreRenewed(t *testing.T) {
	b := realRedis(t)
	const key = "socket.io-peer#nodeAAAA"
	one, two := b.peer(t, "nodeAAAA", 300*time.Millisecond), b.peer(t, "nodeBBBB", 0)
	for range 3 {
		b.do(t, "DEL", key)
		eventually(t, "the address is back", func() error {
			if b.text(t, "GET", key) != "addr of nodeAAAA" {
				return errNotYet
			}
			return nil
		})
	}
	one.cancel() // as if it were killed
	await(t, "Run returns", one.done)
	eventually(t, "the address is gone", func() error {
		if b.text(t, "GET", key) != "" {
			return errNotYet
		}
		return nil
	})
	two.findsNot(t, "nodeAAAA")
}

// A Redis that comes back empty is told at once, by the secret that all had.
func TestPeersAfterARestartOfRedis(t *testing.T) {
	b := realRedis(t)
	one, two := b.peer(t, "nodeAAAA", time.Hour), b.peer(t, "nodeBBBB", time.Hour)
	secret := b.shareSecret(t, one, two)
	b.redis.stop()
	eventually(t, "redis is away", func() error {
		if _, err := two.Peers().Lookup(t.Context(), "nodeAAAA"); !errors.Is(err, ErrUnavailable) {
			return fmt.Errorf("looked up: %v", err)
		}
		return nil
	})
	if err := one.Peers().Withdraw(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("withdraw without Redis: %v", err)
	}
	b.redis.start(t)
	b.observe(t)
	one.finds(t, "nodeBBBB", "addr of nodeBBBB")
	if now := b.shareSecret(t, one, two); now != secret {
		t.Errorf("the secret is %q, and was %q", now, secret)
	}
	one.findsNot(t, "nodeAAAA") // it was withdrawn meanwhile
}

func TestPeersShareOneSecret(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		var nodes []*node
		for i := range 5 { // at once
			n := b.open(t, fmt.Sprintf("node%04d", i), nil)
			n.peers.lease = 300 * time.Millisecond
			n.Peers().Announce("addr")
			n.Bus().Open("/")
			nodes = append(nodes, n.run(t))
		}
		first := b.shareSecret(t, nodes...)
		b.do(t, "FLUSHALL")
		if again := b.shareSecret(t, nodes...); again != first {
			t.Errorf("the secret is %q after a flush, and was %q", again, first)
		}
		other := strings.Repeat("other", 9)
		b.do(t, "SET", "socket.io-peer-secret", other)
		if now := b.shareSecret(t, nodes...); now != other {
			t.Errorf("the secret is %q, want the one in Redis", now)
		}
		b.do(t, "SET", "socket.io-peer-secret", "")
		eventually(t, "a node complains", func() error {
			if nodes[0].log.count("peer-secret has 0 characters") == 0 {
				return errNotYet
			}
			return nil
		})
		for _, n := range nodes {
			if got := string(n.Peers().Secret()); got != other {
				t.Errorf("%s took the secret %q", n.id, got)
			}
		}
		b.do(t, "DEL", "socket.io-peer-secret")
		b.shareSecret(t, nodes...)
	})
}

// waitingLookups waits until so many callers of Lookup wait.
func (p *Peers) waitingLookups(t testing.TB, want int) {
	t.Helper()
	eventually(t, "so many wait", func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.waiting != want {
			return fmt.Errorf("%d wait, want %d", p.waiting, want)
		}
		return nil
	})
}

// Whoever forges names costs Redis little, and gets no more memory than is meant
// for that.
func TestPeersForgedNames(t *testing.T) {
	leak.Check(t)
	b := realRedis(t)
	n := b.peer(t, "nodeAAAA", time.Hour)
	p := newPeers(Config{Key: "socket.io"}, n.link) // which asks when the test says so
	before := b.calls(t, "mget")
	answers := make(chan error, peerLookups)
	ask := func(ctx context.Context, name string) {
		_, err := p.Lookup(ctx, name)
		answers <- err
	}
	ctx, cancel := context.WithCancel(t.Context())
	for i := range peerLookups {
		switch {
		case i < 10:
			go ask(ctx, "canceled")
		case i < 20:
			go ask(t.Context(), "nodeAAAA")
		default:
			go ask(t.Context(), fmt.Sprintf("%08d", i))
		}
	}
	p.waitingLookups(t, peerLookups)
	if _, err := p.Lookup(t.Context(), "toomuch-"); !errors.Is(err, ErrQueueFull) {
		t.Errorf("one too many: %v", err)
	}
	cancel()
	for range 10 {
		if err := await(t, "canceled", answers); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
	}
	p.waitingLookups(t, peerLookups-10)
	const names = peerLookups - 20 + 1
	if len(p.queue) != names || len(p.questions) != names {
		t.Errorf("%d names are to be asked for, %d are remembered, want %d", len(p.queue), len(p.questions), names)
	}
	run, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { p.lookupLoop(run); close(ended) }()
	found := 0
	for range peerLookups - 10 {
		switch err := await(t, "answers", answers); {
		case err == nil:
			found++
		case !errors.Is(err, ErrNoPeer):
			t.Fatalf("a forged name: %v", err)
		}
	}
	if found != 10 {
		t.Errorf("%d found the node that there is, want 10", found)
	}
	p.waitingLookups(t, 0)
	if got, want := b.calls(t, "mget")-before, (names+peerNames-1)/peerNames; got != want {
		t.Errorf("redis was asked %d times, want %d", got, want)
	}
	end()
	await(t, "lookupLoop returns", ended)
}

// What was found counts for a second, and what was not is asked anew.
func TestPeersCache(t *testing.T) {
	b := realRedis(t)
	one := b.peer(t, "nodeAAAA", 0)
	one.peers.mu.Lock()
	one.peers.known.period = time.Hour
	one.peers.mu.Unlock()
	before := b.calls(t, "mget")
	for range 10 {
		one.finds(t, "nodeAAAA", "addr of nodeAAAA")
	}
	if got := b.calls(t, "mget") - before; got != 1 {
		t.Errorf("redis was asked %d times for a node that was found", got)
	}
	if _, err := one.Peers().Lookup(t.Context(), "nodeBBBB"); !errors.Is(err, ErrNoPeer) {
		t.Errorf("looked up: %v", err)
	}
	b.do(t, "SET", "socket.io-peer#nodeBBBB", "late")
	if addr, err := one.Peers().Lookup(t.Context(), "nodeBBBB"); err != nil || addr != "late" {
		t.Errorf("found %q, %v", addr, err)
	}
	one.peers.mu.Lock()
	one.peers.known.period = time.Nanosecond
	one.peers.mu.Unlock()
	b.do(t, "SET", "socket.io-peer#nodeBBBB", "later")
	if addr, err := one.Peers().Lookup(t.Context(), "nodeBBBB"); err != nil || addr != "later" {
		t.Errorf("found %q, %v", addr, err)
	}
}

// A Redis that hangs ends the wait.
func TestPeersWhileRedisHangs(t *testing.T) {
	b := realRedis(t)
	n := b.peer(t, "nodeAAAA", 0)
	b.redis.freeze(t)
	defer b.redis.thaw(t)
	answers := make(chan error, 3)
	for i := range 3 {
		go func() {
			_, err := n.Peers().Lookup(t.Context(), "forged-"+strconv.Itoa(i))
			answers <- err
		}()
	}
	for range 3 {
		if err := await(t, "lookup", answers); !errors.Is(err, ErrUnavailable) {
			t.Errorf("looked up: %v", err)
		}
	}
}

func TestPeersAfterTheEnd(t *testing.T) {
	leak.Check(t)
	b := inProcess(t)
	n := b.open(t, "nodeAAAA", nil)
	if _, err := n.Peers().Lookup(t.Context(), "nodeBBBB"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("before Run: %v", err)
	}
	n.Bus().Open("/")
	n.run(t)
	eventually(t, "node is ready", n.Ready)
	p := newPeers(Config{Key: "socket.io"}, n.link)
	answers := make(chan error, 1)
	go func() {
		_, err := p.Lookup(t.Context(), "nodeBBBB")
		answers <- err
	}()
	p.waitingLookups(t, 1)
	p.lookupLoop(canceled(t))
	if err := await(t, "lookup", answers); !errors.Is(err, ErrClosed) {
		t.Errorf("when the loop ends: %v", err)
	}
	n.cancel()
	await(t, "Run returns", n.done)
	if _, err := n.Peers().Lookup(t.Context(), "nodeBBBB"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Run: %v", err)
	}
}
