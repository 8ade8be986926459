package state

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// Bounds of every Redis call. A connection that stays silent is given up after
// 2×keepAlive + connTimeout = 3 s.
const (
	dialTimeout = time.Second
	keepAlive   = 500 * time.Millisecond
	connTimeout = 2 * time.Second
	callTimeout = 4 * time.Second // of one command or batch: above the 3 s, so that a lost connection says so itself
	readTimeout = 2 * time.Second
	pingTimeout = time.Second
)

// redisOptions says where Redis is and how to reach it.
type redisOptions struct {
	name    string // for logs: no password
	basic   bool   // it cannot name or kill connections, nor track keys
	base    rueidis.ClientOption
	dial    func(context.Context, *net.Dialer, *tls.Config) (net.Conn, error)
	denials *denials // nil: what Redis does not permit is only returned

	sentinels *sentinels // whom dial asks; nil: there is one server
}

// options is how to reach the servers of an address.
func (a Address) options(files TLSFiles) redisOptions {
	o := redisOptions{
		name: a.String(),
		base: rueidis.ClientOption{Username: a.user, Password: a.password, SelectDB: a.db},
	}
	if a.master != "" {
		o.sentinels = newSentinels(a, files)
		o.dial = o.sentinels.dial
		return o
	}
	o.dial = func(ctx context.Context, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
		return a.dialServer(ctx, d, files, a.servers[0])
	}
	return o
}

// client is a rueidis client together with the connections it opened, so that
// it can be ended at once and for good.
type client struct {
	rueidis.Client
	conns   *connSet
	denials *denials
}

// connSet is the set of connections a client has open. limit > 0 bounds how
// many it may ever open: a client of limit 1 stays broken once its connection
// is, and nothing is ever sent on a second one behind our back.
type connSet struct {
	mu     sync.Mutex // guards the rest; never held across I/O
	open   map[net.Conn]struct{}
	dialed int
	limit  int
	closed bool
}

var errNoMoreDials = errors.New("state: connection was lost")

func (s *connSet) admit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || (s.limit > 0 && s.dialed >= s.limit) {
		return errNoMoreDials
	}
	s.dialed++
	return nil
}

// add takes ownership of c; it closes c if the set is closed already.
func (s *connSet) add(c net.Conn) (net.Conn, error) {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.open[c] = struct{}{}
	}
	s.mu.Unlock()
	if closed {
		_ = c.Close()
		return nil, errNoMoreDials
	}
	return &trackedConn{Conn: c, set: s}, nil
}

// closeAll ends every connection and lets no other be opened.
func (s *connSet) closeAll() {
	s.mu.Lock()
	s.closed = true
	open := s.open
	s.open = nil
	s.mu.Unlock()
	for c := range open {
		_ = c.Close() // the connection is given up: nothing to do about an error
	}
}

type trackedConn struct {
	net.Conn
	set *connSet
}

func (c *trackedConn) Close() error {
	c.set.mu.Lock()
	delete(c.set.open, c.Conn)
	c.set.mu.Unlock()
	return c.Conn.Close()
}

// newClient makes a client; it fails when Redis cannot be reached.
func newClient(o redisOptions, limit int, set func(*rueidis.ClientOption)) (*client, error) {
	conns := &connSet{open: make(map[net.Conn]struct{}), limit: limit}
	opt := o.base
	opt.InitAddress = []string{o.name}
	opt.ForceSingleClient = true
	opt.DisableRetry = true
	opt.ClientSetInfo = rueidis.DisableClientSetInfo // one right less to be given
	opt.Dialer.Timeout = dialTimeout
	opt.Dialer.KeepAlive = keepAlive
	opt.ConnWriteTimeout = connTimeout
	opt.RingScaleEachConn = 9
	opt.DialCtxFn = func(ctx context.Context, _ string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		if err := conns.admit(); err != nil {
			return nil, err
		}
		c, err := o.dial(ctx, d, t)
		if err != nil {
			return nil, err
		}
		return conns.add(c)
	}
	set(&opt)
	c, err := rueidis.NewClient(opt)
	if err != nil {
		if c != nil { // rueidis returns one even when the first dial failed
			conns.closeAll()
			c.Close()
		}
		return nil, err
	}
	return &client{Client: c, conns: conns, denials: o.denials}, nil
}

// end closes the connections first, so that Close has nothing to wait for.
func (c *client) end() {
	c.conns.closeAll()
	c.Close()
}

// commandClient carries writes: one connection, because Redis keeps the order
// of commands per connection, and only ever one.
func commandClient(o redisOptions, name string) (*client, error) {
	return newClient(o, 1, func(opt *rueidis.ClientOption) {
		opt.ClientName = name + "-cmd"
		opt.DisableCache = true
		opt.AlwaysPipelining = true
		opt.PipelineMultiplex = -1
		opt.MaxFlushDelay = 20 * time.Microsecond
		opt.ReadBufferEachConn, opt.WriteBufferEachConn = 128<<10, 128<<10
	})
}

// readClient carries presence reads, through client-side caching if cache is set.
func readClient(o redisOptions, name string, cache bool, invalidated func([]rueidis.RedisMessage)) (*client, error) {
	return newClient(o, 0, func(opt *rueidis.ClientOption) {
		opt.ClientName = name + "-read"
		opt.DisableCache = !cache
		opt.AlwaysPipelining = true
		opt.CacheSizeEachConn = 32 << 20
		opt.ReadBufferEachConn, opt.WriteBufferEachConn = 64<<10, 32<<10
		if cache {
			opt.OnInvalidations = invalidated
		}
	})
}

// journalClient reads pages of journals, which are large and must hold up nothing else.
func journalClient(o redisOptions, name string) (*client, error) {
	return newClient(o, 0, func(opt *rueidis.ClientOption) {
		opt.ClientName = name + "-journal"
		opt.DisableCache = true
		opt.AlwaysPipelining = true
		opt.PipelineMultiplex = -1
		opt.ReadBufferEachConn, opt.WriteBufferEachConn = 256<<10, 32<<10
	})
}

// pubsubClient exists to be dedicated to Pub/Sub; its own pipeline stays idle.
func pubsubClient(o redisOptions, name string) (*client, error) {
	return newClient(o, 2, func(opt *rueidis.ClientOption) {
		opt.ClientName = name + "-ps"
		opt.DisableCache = true
		opt.PipelineMultiplex = -1
		opt.ReadBufferEachConn, opt.WriteBufferEachConn = 256<<10, 32<<10
	})
}

// connID names one connection in Redis; the zero value none.
type connID struct {
	id   int64
	name string
}

// identify asks for the connection's id. A server that does not tell gets the
// zero value.
func identify(ctx context.Context, c rueidis.CommandClient, name string) (connID, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	id, err := c.Do(ctx, c.B().ClientId().Build()).AsInt64()
	if lostConnection(err) {
		return connID{}, fmt.Errorf("client id: %w", err)
	}
	return connID{id: id, name: name}, nil
}

// kill ends a lost connection of ours that Redis may still hold, with all that
// it may still have to say: commands it sent late, and subscriptions that
// other nodes would count twice. Ids start over when Redis restarts, so that
// the name is compared first. A connection that is gone is no error, and a
// server that does not let us look or kill is taken as it is.
func (id connID) kill(ctx context.Context, c rueidis.CommandClient) error {
	if id.id == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, err := c.Do(ctx, c.B().ClientList().Id().ClientId(id.id).Build()).ToString()
	if lostConnection(err) {
		return fmt.Errorf("client list: %w", err)
	}
	if !strings.Contains(list, " name="+id.name+" ") {
		return nil
	}
	err = c.Do(ctx, c.B().Arbitrary("CLIENT", "KILL", "ID").Args(strconv.FormatInt(id.id, 10)).Build()).Error()
	if lostConnection(err) {
		return fmt.Errorf("client kill: %w", err)
	}
	return nil
}

// errAnswer is an answer that is none of those a command or script may give.
var errAnswer = errors.New("state: unexpected answer of redis")

// answered is the error of a command whose answer has got values where want
// were expected, or could not be read because of err.
func answered(command string, got, want int, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return fmt.Errorf("%w: %s has %d values, want %d", errAnswer, command, got, want)
}

// lostConnection reports whether err is about the connection and not an answer of Redis.
func lostConnection(err error) bool {
	var answer *rueidis.RedisError
	return err != nil && !errors.As(err, &answer) && !errors.Is(err, errAnswer) && !rueidis.IsParseErr(err)
}
