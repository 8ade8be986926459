package state

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/socketio"
)

// clientIDs returns the ids of the connections with this name.
func (b *backend) clientIDs(t *testing.T, name string) []string {
	t.Helper()
	var ids []string
	for _, line := range strings.Split(b.text(t, "CLIENT", "LIST"), "\n") {
		if strings.Contains(line, " name="+name+" ") {
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
			ids = append(ids, id)
		}
	}
	return ids
}

func subscribers(t *testing.T, b *backend, channel string) int64 {
	t.Helper()
	m := b.do(t, "PUBSUB", "NUMSUB", channel)
	counts, err := m.AsIntMap()
	if err != nil {
		t.Fatal(err)
	}
	return counts[channel]
}

func realModes(t *testing.T, test func(t *testing.T, b *backend, pattern bool)) {
	t.Run("exact", func(t *testing.T) { test(t, realRedis(t), false) })
	t.Run("pattern", func(t *testing.T) { test(t, realRedis(t), true) })
}

func TestResubscribeAfterPubSubConnectionIsKilled(t *testing.T) {
	realModes(t, func(t *testing.T, b *backend, pattern bool) {
		n := b.start(t, "nodeAAAA", func(c *Config) { c.Pattern = pattern })
		subscribe(t, n, "/", "r1", 1)
		n.Bus().Subscribe("/", "gone", 1)
		for round := range 3 {
			before := n.announced("/", "r1", 1)
			if b.number(t, "CLIENT", "KILL", "TYPE", "pubsub") == 0 {
				t.Fatal("there was no Pub/Sub connection to kill")
			}
			n.Bus().Unsubscribe("/", "gone", 1) // during the outage, as the next one
			room := "new" + strconv.Itoa(round)
			subscribe(t, n, "/", room, 1)
			eventually(t, "r1 is announced again", func() error {
				if n.announced("/", "r1", 1) == before {
					return errNotYet
				}
				return nil
			})
			eventually(t, "ready", n.Ready)
			publish(t, n, "/", "r1", "a"+strconv.Itoa(round))
			publish(t, n, "/", room, "b"+strconv.Itoa(round))
			if got := subscribers(t, b, "socket.io-request#/#"); got != 1 {
				t.Errorf("%d subscriptions of the request channel", got)
			}
		}
		expect(t, n, delivery{"/", "r1", "a0"}, delivery{"/", "new0", "b0"}, delivery{"/", "r1", "a1"},
			delivery{"/", "new1", "b1"}, delivery{"/", "r1", "a2"}, delivery{"/", "new2", "b2"})
		if got := subscribers(t, b, "socket.io#/#gone#"); got != 0 {
			t.Errorf("%d subscriptions of the room given up", got)
		}
		if got := testutil.ToFloat64(n.metrics.BusReconnects); got != 3 {
			t.Errorf("%v reconnects counted, want 3", got)
		}
		if got := n.log.count("the Pub/Sub connection is lost"); got != 3 {
			t.Errorf("%d log lines for 3 losses", got)
		}
	})
}

// A proxy that stops forwarding makes a connection lost for us and alive for Redis.
func TestOldConnectionsAreKilledBeforeSubscribingAgain(t *testing.T) {
	b := realRedis(t)
	proxy := newProxy(t, "127.0.0.1:"+b.redis.port)
	direct := b.options
	var err error
	if b.options, err = parseURL("redis://" + proxy.address()); err != nil {
		t.Fatal(err)
	}
	n := b.start(t, "nodeAAAA", nil)
	b.options = direct
	subscribe(t, n, "/", "r1", 1)
	ps, cmd := n.link.name+"-ps", n.link.name+"-cmd"
	oldPS, oldCmd := b.clientIDs(t, ps), b.clientIDs(t, cmd)
	proxy.abandon() // our side sees the end, Redis does not
	eventually(t, "announced again", func() error {
		if n.announced("/", "r1", 1) < 2 {
			return errNotYet
		}
		return nil
	})
	eventually(t, "ready", n.Ready)
	if got := subscribers(t, b, "socket.io-request#/#"); got != 1 {
		t.Errorf("%d subscriptions of the request channel, Node.js would count all", got)
	}
	for _, id := range b.clientIDs(t, cmd) {
		if id == oldCmd[0] {
			t.Error("the old command connection is still open in Redis")
		}
	}
	if len(oldPS) == 0 || len(oldCmd) != 1 {
		t.Errorf("found %v and %v before", oldPS, oldCmd)
	}
}

func TestRedisRestart(t *testing.T) {
	realModes(t, func(t *testing.T, b *backend, pattern bool) {
		n := b.start(t, "nodeAAAA", func(c *Config) { c.Pattern = pattern })
		subscribe(t, n, "/", "r1", 1)
		n.connect(t, "u1", n.id+"-sock-000001")
		n.join(t, "u1", n.id+"-sock-000001", "r1")
		b.redis.stop()
		eventually(t, "not ready", func() error {
			if n.Ready() == nil {
				return errNotYet
			}
			return nil
		})
		eventually(t, "edge_redis_up to fall", func() error { // a lost Pub/Sub connection is noticed on its own
			if testutil.ToFloat64(n.metrics.RedisUp) != 0 {
				return errNotYet
			}
			return nil
		})
		n.Bus().Subscribe("/", "r2", 1) // joins, connects and leaves made during the outage
		done, c := outcome()
		n.Presence().Connect("u2", n.id+"-sock-000002", 0, done)
		n.Presence().Leave("u1", n.id+"-sock-000001", "r1", nil)
		b.redis.start(t)
		b.observe(t)
		eventually(t, "ready again", n.Ready)
		if testutil.ToFloat64(n.metrics.RedisUp) != 1 {
			t.Error("ready, and edge_redis_up is not 1")
		}
		eventually(t, "r2 is announced", func() error {
			if n.announced("/", "r2", 1) == 0 {
				return errNotYet
			}
			return nil
		})
		if err := await(t, "connect", c); err != nil {
			t.Error(err)
		}
		n.settled(t)
		publish(t, n, "/", "r1", "after")
		publish(t, n, "/", "r2", "after")
		expect(t, n, delivery{"/", "r1", "after"}, delivery{"/", "r2", "after"})
		b.expectSet(t, onlineKey, "u1", "u2")
		b.expectSet(t, roomKey("r1"))
		if got := b.text(t, "GET", socketKey("u1")); got != n.id+"-sock-000001" {
			t.Errorf("u1's socket is %q", got)
		}
		if lost, back := n.log.count("redis is lost"), n.log.count("redis is back"); lost != 1 || back != 1 {
			t.Errorf("%d lines say lost and %d back", lost, back)
		}
		if got := n.log.count("the Pub/Sub connection is lost"); got != 0 {
			t.Errorf("%d further lines for the same outage", got)
		}
	})
}

func TestRedisAwayAtStart(t *testing.T) {
	r := &redisServer{port: freePort(t), dir: t.TempDir()}
	t.Cleanup(r.stop)
	options, err := parseURL(r.url())
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{options: options, redis: r}
	n := b.open(t, "nodeAAAA", nil)
	n.bus.patience = patience // redis-server may take its time to start
	n.Bus().Open("/")
	n.Bus().Subscribe("/", "r1", 7)
	n.run(t)
	published, connected := make(chan error, 1), make(chan error, 1)
	n.Presence().Connect("u1", "s1", 0, func(err error) { connected <- err })
	eventually(t, "the outage is logged", func() error {
		if n.log.count("redis cannot be reached") == 0 {
			return errNotYet
		}
		return nil
	})
	if n.Ready() == nil {
		t.Error("ready without Redis")
	}
	if _, err := n.Presence().Sockets(context.Background(), []string{"other"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("read without Redis: %v", err)
	}
	if err := n.Bus().Publish(socketio.Publication{Namespace: "/", Room: "r1", Payload: []byte("x"), Done: func(err error) { published <- err }}); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	observed(t, b)
	if err := await(t, "connect", connected); err != nil {
		t.Error(err)
	}
	if err := await(t, "publish", published); err != nil {
		t.Error(err)
	}
	eventually(t, "ready", n.Ready)
	eventually(t, "r1 is announced", func() error {
		if n.announced("/", "r1", 7) == 0 {
			return errNotYet
		}
		return nil
	})
	if got := n.log.count("redis cannot be reached"); got != 1 {
		t.Errorf("%d log lines for one outage", got)
	}
}

func TestPublishGivesUpOnAnAbsentRedis(t *testing.T) {
	n := awayNode(t, time.Millisecond)
	done, c := outcome()
	if err := n.Bus().Publish(socketio.Publication{Namespace: "/", Payload: []byte("x"), Done: done}); err != nil {
		t.Fatal(err)
	}
	if err := await(t, "done", c); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func TestFrozenRedis(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", nil)
	subscribe(t, n, "/", "r1", 1)
	n.connect(t, "u1", "s1")
	b.redis.freeze(t)
	done, c := outcome()
	if err := n.Bus().Publish(socketio.Publication{Namespace: "/", Room: "r1", Payload: []byte("x"), Done: done}); err != nil {
		t.Fatal(err)
	}
	n.Presence().Connect("u2", "s2", 0, nil)
	eventually(t, "not ready", func() error {
		if n.Ready() == nil {
			return errNotYet
		}
		return nil
	})
	if err := await(t, "done", c); err == nil {
		t.Error("a publish that Redis never answered succeeded")
	}
	b.redis.thaw(t)
	b.observe(t)
	eventually(t, "ready again", n.Ready)
	n.settled(t)
	b.expectSet(t, onlineKey, "u1", "u2")
	if got := subscribers(t, b, "socket.io-request#/#"); got != 1 {
		t.Errorf("%d subscriptions of the request channel", got)
	}
}

func TestScriptsAreLoadedAgain(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", nil)
	n.connect(t, "u1", "s1")
	b.do(t, "SCRIPT", "FLUSH", "SYNC")
	n.connect(t, "u2", "s2")
	b.expectSet(t, onlineKey, "u1", "u2")
	if got := testutil.ToFloat64(n.metrics.PresenceErrors); got != 0 {
		t.Errorf("%v errors counted", got)
	}
}

// A key that Redis refuses must not hold up the others, and heals by itself.
func TestRefusedKeyIsTriedAgain(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", nil)
	b.do(t, "SET", roomKey("bad"), "not a set")
	n.connect(t, "u1", "s1")
	done, c := outcome()
	n.Presence().Join("u1", "s1", "bad", done)
	n.join(t, "u1", "s1", "good")
	eventually(t, "the refusal is counted", func() error {
		if testutil.ToFloat64(n.metrics.PresenceErrors) == 0 {
			return errNotYet
		}
		return nil
	})
	b.do(t, "DEL", roomKey("bad"))
	if err := await(t, "join", c); err != nil {
		t.Error(err)
	}
	b.expectSet(t, roomKey("bad"), "u1")
	b.expectSet(t, roomKey("good"), "u1")
}

func TestNothingIsLeftRunning(t *testing.T) {
	before := runtime.NumGoroutine()
	modes(t, func(t *testing.T, b *backend, pattern bool) {
		for i := range 3 {
			n := b.start(t, "nodeAAA"+strconv.Itoa(i), func(c *Config) { c.Pattern = pattern })
			n.connect(t, "u", "s"+strconv.Itoa(i))
			subscribe(t, n, "/", "r", 1)
			if _, err := n.Presence().Snapshot(context.Background(), "r"); err != nil {
				t.Fatal(err)
			}
			n.stop(t)
		}
	})
	eventually(t, "goroutines end", func() error {
		if now := runtime.NumGoroutine(); now > before {
			stacks := make([]byte, 1<<20)
			return fmt.Errorf("%d goroutines, %d before:\n%s", now, before, stacks[:runtime.Stack(stacks, true)])
		}
		return nil
	})
}

// proxy forwards TCP connections to a server.
type proxy struct {
	l       net.Listener
	control chan func()
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, control: make(chan func())}
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	go func() {
		var near, far []net.Conn
		for {
			select {
			case c, ok := <-accepted:
				if !ok {
					for _, c := range append(near, far...) {
						c.Close()
					}
					return
				}
				s, err := net.Dial("tcp", target)
				if err != nil {
					c.Close()
					continue
				}
				near, far = append(near, c), append(far, s)
				go copyTo(s, c)
				go copyTo(c, s)
			case <-p.control:
				for _, c := range near {
					c.Close()
				}
				near = nil
				p.control <- nil
			}
		}
	}()
	t.Cleanup(func() { l.Close() })
	return p
}

func (p *proxy) address() string { return p.l.Addr().String() }

// abandon closes the near side of every connection and leaves the far side open.
func (p *proxy) abandon() {
	p.control <- nil
	<-p.control
}

func copyTo(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
