package state

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stellara/edge/metrics"
)

func TestBelieve(t *testing.T) {
	a, b := func(epoch int64) master { return master{"a:1", epoch} }, func(epoch int64) master { return master{"b:1", epoch} }
	none := opinion{err: errors.New("it is down")}
	says := func(m master) opinion { return opinion{master: m} }
	for name, tt := range map[string]struct {
		known   master
		answers []opinion
		want    master // the zero value: an error
	}{
		"all agree":                              {master{}, []opinion{says(a(1)), says(a(1)), says(a(1))}, a(1)},
		"a majority":                             {a(1), []opinion{says(b(2)), none, says(b(2))}, b(2)},
		"the later one, though one knows it":     {a(1), []opinion{says(a(1)), says(b(2)), says(a(1))}, b(2)},
		"the more of one epoch":                  {master{}, []opinion{says(b(0)), says(a(0)), says(a(0))}, a(0)},
		"one that was cut off":                   {b(2), []opinion{says(a(1)), none, none}, b(2)},
		"one alone, at the start":                {master{}, []opinion{none, says(a(1)), none}, a(1)},
		"one alone that knows as much":           {a(2), []opinion{none, none, says(b(2))}, b(2)},
		"sentinels that were set up again":       {b(7), []opinion{says(a(0)), says(a(0)), none}, a(0)},
		"nobody":                                 {a(1), []opinion{none, none, none}, master{}},
		"nobody, though the channel is not full": {master{}, nil, master{}},
	} {
		got, err := tt.known.believe(tt.answers, 3)
		if got != tt.want || (err != nil) != (tt.want == master{}) || err != nil && !errors.Is(err, errUnnamed) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, tt.want)
		}
	}
}

// Sentinels that have not heard of a failover answer as quickly as the one that has
// led it, and are a majority: they must not take a node back to the master before.
func TestStaleMajority(t *testing.T) {
	a, b := opinion{master: master{"a:1", 1}}, opinion{master: master{"b:1", 2}}
	none := opinion{err: errors.New("it is down")}
	for name, tt := range map[string]struct {
		known   master
		answers []opinion // in the order of their arrival; then nothing comes any more
		heard   int       // of them, ctx's end included
		want    master
	}{
		"a majority is enough":           {master{"a:1", 1}, []opinion{a, a, b}, 2, a.master},
		"but not one that knows less":    {master{"b:1", 2}, []opinion{a, a, b}, 3, b.master},
		"the one that knows first":       {master{"b:1", 2}, []opinion{b, a, a}, 2, b.master},
		"nobody knows it any more":       {master{"b:1", 2}, []opinion{a, a, a}, 3, a.master},
		"the one that knew is gone":      {master{"b:1", 2}, []opinion{a, none, a}, 3, a.master},
		"the one that knew says nothing": {master{"b:1", 2}, []opinion{a, a}, 3, a.master},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		answers := make(chan opinion) // so that all of them were heard when the last was sent
		go func() {
			for _, o := range tt.answers {
				select {
				case answers <- o:
				case <-ctx.Done():
				}
			}
			cancel()
		}()
		heard := hear(ctx, answers, func(heard []opinion) bool { return tt.known.enough(heard, 3) })
		cancel()
		got, err := tt.known.believe(heard, 3)
		if got != tt.want || err != nil || len(heard) != tt.heard {
			t.Errorf("%s: %+v, %v of %d answers; want %+v of %d", name, got, err, len(heard), tt.want, tt.heard)
		}
	}
}

const sentinelSecret = "what-sentinels-ask-for"

// watched is a master and replicas with sentinels.
type watched struct {
	servers   []*redisServer // the first one is the first master
	sentinels []*redisServer
}

// startWatched starts servers and sentinels, and waits until they know each other.
func startWatched(t *testing.T, replicas, count int) *watched {
	t.Helper()
	w := &watched{servers: []*redisServer{startRedis(t)}}
	for range replicas {
		w.servers = append(w.servers, startRedis(t, "--replicaof", "127.0.0.1 "+w.servers[0].port, "--repl-diskless-sync-delay", "0"))
	}
	for range count {
		w.sentinels = append(w.sentinels, startSentinel(t, w.servers[0].port, count/2+1))
	}
	for _, s := range w.sentinels {
		eventually(t, "the sentinel knows replicas and other sentinels", func() error {
			m := s.command(t, []string{"SENTINEL", "MASTER", "main"})
			facts, err := m.AsStrMap()
			if err == nil && (facts["num-slaves"] != strconv.Itoa(replicas) || facts["num-other-sentinels"] != strconv.Itoa(count-1) || facts["flags"] != "master") {
				err = fmt.Errorf("it says %v", facts)
			}
			return err
		})
	}
	return w
}

// startSentinel starts a sentinel that asks for a password; further lines go to its configuration.
func startSentinel(t *testing.T, masterPort string, quorum int, lines ...string) *redisServer {
	t.Helper()
	r := &redisServer{port: freePort(t), dir: t.TempDir(), password: sentinelSecret, args: []string{"--sentinel"}}
	lines = append(lines, fmt.Sprintf("sentinel monitor main 127.0.0.1 %s %d", masterPort, quorum),
		"sentinel down-after-milliseconds main 500", "sentinel failover-timeout main 5000", "requirepass "+sentinelSecret)
	r.config = filepath.Join(r.dir, "sentinel.conf")
	if err := os.WriteFile(r.config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	r.start(t)
	return r
}

// url names the sentinels with their password.
func (w *watched) url() string {
	var hosts []string
	for _, s := range w.sentinels {
		hosts = append(hosts, "127.0.0.1:"+s.port)
	}
	return "redis-sentinel://" + strings.Join(hosts, ",") + "/main?sentinel_password=" + sentinelSecret
}

// A node follows the master: one that dies, and one that is replaced while it still can be reached.
func TestSentinelFailover(t *testing.T) {
	w := startWatched(t, 1, 3)
	options, err := parseURL(w.url())
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{name: "sentinel", options: options}
	n := b.start(t, "nodeAAAA", recovering)
	n.accepted(t, "", "before")
	c, _ := n.link.get()
	first := c.run
	n.connect(t, "u1", "s1")

	replica := w.servers[1]
	online := func() error {
		m := replica.command(t, []string{"SISMEMBER", onlineKey, "u1"})
		if n, err := m.AsInt64(); err != nil || n != 1 {
			return fmt.Errorf("%d, %v", n, err)
		}
		return nil
	}
	eventually(t, "the replica has what the master has", online)
	w.servers[0].stop() // kill -9
	eventually(t, "the node is not ready", func() error {
		if n.Ready() == nil {
			return errNotYet
		}
		return nil
	})
	eventually(t, "the node is ready with another master", n.Ready)
	c, _ = n.link.get()
	if c.run == first || c.run == "" {
		t.Errorf("the run is %q, and was %q before", c.run, first)
	}
	n.accepted(t, "", "after")
	expectTexts(t, n, "before", "after")
	n.settled(t)
	eventually(t, "presence is stored", online)
	eventually(t, "the log names both masters", func() error {
		if got := n.log.count("the sentinels name the master"); got != 2 {
			return fmt.Errorf("%d lines name one", got)
		}
		return nil
	})
}

// Connections to a server that takes itself for the master and is not named any more are ended.
func TestDeposedMasterIsLeft(t *testing.T) {
	one, two := realRedis(t), realRedis(t)
	sentinel := startSentinel(t, one.redis.port, 1)
	address, err := ParseURL((&watched{sentinels: []*redisServer{sentinel}}).url())
	if err != nil {
		t.Fatal(err)
	}
	address.user, address.password = one.options.base.Username, one.options.base.Password
	b := &backend{name: "sentinel", options: address.options(TLSFiles{})}
	n := b.start(t, "nodeAAAA", recovering)
	connected := func(b *backend) int { return strings.Count(b.text(t, "CLIENT", "LIST"), "name="+n.link.name) }
	if connected(one) < 4 || connected(two) != 0 {
		t.Fatalf("%d connections to the master and %d to the other server", connected(one), connected(two))
	}
	// Set up anew with another master, as operators do: both servers say that they are masters.
	sentinel.command(t, []string{"SENTINEL", "REMOVE", "main"})
	sentinel.command(t, []string{"SENTINEL", "MONITOR", "main", "127.0.0.1", two.redis.port, "1"})
	eventually(t, "all connections are to the other server", func() error {
		if a, b := connected(one), connected(two); a != 0 || b < 4 {
			return fmt.Errorf("%d and %d", a, b)
		}
		return n.Ready()
	})
	n.accepted(t, "", "after")

	sentinel.stop()
	eventually(t, "the silence of the sentinels is logged", func() error {
		if n.log.count("a failover would not be noticed") != 1 {
			return errNotYet
		}
		return nil
	})
	n.accepted(t, "", "without sentinels")
	sentinel.start(t)
	eventually(t, "their return is logged", func() error {
		if n.log.count("the sentinels answer again") != 1 {
			return errNotYet
		}
		return nil
	})
}

// What the sentinels cannot say is told once: they are away, know no such master, or want a password.
func TestSentinelsThatDoNotTell(t *testing.T) {
	redis := startRedis(t)
	sentinel := startSentinel(t, redis.port, 1)
	at := "redis-sentinel://127.0.0.1:" + sentinel.port
	for name, tt := range map[string]struct{ url, text string }{
		"away":        {"redis-sentinel://127.0.0.1:" + freePort(t) + "/main", "connection refused"},
		"no master":   {at + "/other?sentinel_password=" + sentinelSecret, `it watches no master \"other\"`},
		"no password": {at + "/main", "NOAUTH"},
	} {
		t.Run(name, func(t *testing.T) {
			options, err := parseURL(tt.url)
			if err != nil {
				t.Fatal(err)
			}
			n := (&backend{options: options}).open(t, "nodeAAAA", nil)
			n.Bus().Open("/")
			n.run(t)
			eventually(t, "the reason is logged", func() error {
				if n.log.count("reason="+metrics.RedisNoMaster.String()) != 1 || n.log.count(tt.text) == 0 {
					return fmt.Errorf("the log: %q", n.log.all())
				}
				return nil
			})
			if n.Ready() == nil {
				t.Error("ready without a master")
			}
		})
	}
	options, err := parseURL("redis://:" + sentinelSecret + "@127.0.0.1:" + sentinel.port)
	if err != nil {
		t.Fatal(err)
	}
	if err := refusing(t, &backend{options: options}); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "redis-sentinel://") {
		t.Errorf("a sentinel as the Redis itself: %v", err)
	}
}

// rediss-sentinel is TLS with sentinels and servers; the sentinels' user has the rights that docs/operations.md names.
func TestSentinelTLS(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.issue(t, "server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	_, url := startTLS(t, ca, cert, key)
	port := freePort(t)
	document, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	rights := regexp.MustCompile("`(\\+sentinel\\|[^`]+)`").FindSubmatch(document)
	if rights == nil {
		t.Fatal("docs/operations.md does not say which rights a user of the sentinels needs")
	}
	startSentinel(t, strings.TrimPrefix(url, "rediss://127.0.0.1:"), 1, "tls-port "+port, "tls-replication yes",
		"tls-cert-file "+cert, "tls-key-file "+key, "tls-ca-cert-file "+ca.path, "user asker reset on >asks "+string(rights[1]))
	b := secured(t, nil, "rediss-sentinel://127.0.0.1:"+port+"/main?sentinel_user=asker&sentinel_password=asks", ca.client(t))
	n := b.start(t, "nodeAAAA", recovering)
	n.accepted(t, "", "over TLS")
}
