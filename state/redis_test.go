package state

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/internal/port"
)

// redisServer is a redis-server process of a test.
type redisServer struct {
	port     string
	password string // of the default user
	dir      string
	config   string   // path of its configuration; "" for a server without one
	args     []string // besides those of start
	cmd      *exec.Cmd
}

func freePort(t testing.TB) string {
	t.Helper()
	n, err := port.Free()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(n)
}

func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	r := &redisServer{port: freePort(t), dir: t.TempDir(), args: args}
	t.Cleanup(r.stop)
	r.start(t)
	return r
}

func (r *redisServer) start(t testing.TB) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("redis-server is not installed, and these tests need a real one (make test installs it): %v", err)
	}
	var args []string
	if r.config != "" {
		args = append(args, r.config)
	}
	args = append(args, "--port", r.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", r.dir)
	r.cmd = exec.Command(path, append(args, r.args...)...)
	r.cmd.Stdout, r.cmd.Stderr = io.Discard, io.Discard
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "redis-server starts", func() error {
		c, err := net.Dial("tcp", "127.0.0.1:"+r.port)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte("PING\r\n")); err != nil {
			return err
		}
		reply := make([]byte, 7)
		if _, err := io.ReadFull(c, reply); err != nil || string(reply) != "+PONG\r\n" && string(reply) != "-NOAUTH" {
			return fmt.Errorf("PING answered %q, %v", reply, err)
		}
		return nil
	})
}

// command sends a command as the default user, on a connection of its own.
func (r *redisServer) command(t testing.TB, words []string) rueidis.RedisMessage {
	t.Helper()
	options, err := parseURL(r.url())
	if err != nil {
		t.Fatal(err)
	}
	options.base.Password = r.password
	c, err := commandClient(options, "command")
	if err != nil {
		t.Fatal(err)
	}
	defer c.end()
	m, err := c.Do(t.Context(), c.B().Arbitrary(words...).Build()).ToMessage()
	if err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	return m
}

// stop kills the process; a frozen one, too.
func (r *redisServer) stop() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

func (r *redisServer) signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func (r *redisServer) freeze(t testing.TB) { r.signal(t, syscall.SIGSTOP) }
func (r *redisServer) thaw(t testing.TB)   { r.signal(t, syscall.SIGCONT) }

func (r *redisServer) url() string { return "redis://127.0.0.1:" + r.port }

// backend is a Redis for a test: in-process or a redis-server.
type backend struct {
	name     string
	options  redisOptions // of nodes
	redis    *redisServer // nil in-process
	observer *client      // as the default user, who may do everything
}

// backends runs a test on both.
func backends(t *testing.T, test func(t *testing.T, b *backend)) {
	t.Run("in-process", func(t *testing.T) { test(t, inProcess(t)) })
	t.Run("redis-server", func(t *testing.T) { test(t, realRedis(t)) })
}

func inProcess(t testing.TB) *backend {
	e := startEmbedded()
	t.Cleanup(e.stop)
	return observed(t, &backend{name: "in-process", options: e.options()})
}

// parseURL is how to reach the Redis at a URL.
func parseURL(url string) (redisOptions, error) {
	a, err := ParseURL(url)
	return a.options(TLSFiles{}), err
}

// realRedis is a redis-server at which nodes are the user of docs/operations.md. The
// test fails if they want to do what that user has no right to.
func realRedis(t testing.TB) *backend {
	r := startRedis(t, append([]string{"--user"}, leastRights(t)[2:]...)...)
	options, err := parseURL("redis://edge:password@127.0.0.1:" + r.port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { expectNoDenials(t, r) })
	return observed(t, &backend{name: "redis-server", options: options, redis: r})
}

func observed(t testing.TB, b *backend) *backend {
	b.observe(t)
	t.Cleanup(func() { b.observer.end() })
	return b
}

// observe connects the observer, anew after a restart.
func (b *backend) observe(t testing.TB) {
	t.Helper()
	if b.observer != nil {
		b.observer.end()
	}
	eventually(t, "observer connects", func() (err error) {
		options := b.options
		options.base.Username, options.base.Password = "", ""
		b.observer, err = commandClient(options, "observer")
		return err
	})
}

// do runs one command for the test.
func (b *backend) do(t testing.TB, words ...string) rueidis.RedisMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	m, err := b.observer.Do(ctx, b.observer.B().Arbitrary(words...).Build()).ToMessage()
	if err != nil && !rueidis.IsRedisNil(err) {
		t.Fatalf("%v: %v", words, err)
	}
	return m
}

func (b *backend) list(t testing.TB, words ...string) []string {
	t.Helper()
	m := b.do(t, words...)
	list, err := m.AsStrSlice()
	if err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	return list
}

func (b *backend) text(t testing.TB, words ...string) string {
	t.Helper()
	m := b.do(t, words...)
	if m.IsNil() {
		return ""
	}
	s, err := m.ToString()
	if err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	return s
}

func (b *backend) number(t testing.TB, words ...string) int64 {
	t.Helper()
	m := b.do(t, words...)
	n, err := m.AsInt64()
	if err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	return n
}

// saved is a key that is in the data that Redis was told to save, and nowhere else. Nodes leave it
// alone, while what is theirs is put right as soon as they are back, perhaps before the test looks.
const saved = "saved by the test"

// save has Redis come back from a restart with what it has now.
func (b *backend) save(t testing.TB) {
	t.Helper()
	b.do(t, "SET", saved, "1")
	b.do(t, "SAVE")
	b.do(t, "DEL", saved)
}

// wentBack checks that Redis has come back with what it had at save.
func (b *backend) wentBack(t testing.TB) {
	t.Helper()
	if b.number(t, "DEL", saved) != 1 {
		t.Fatal("the old data is not there, so that nothing is tested")
	}
}

// expectSet compares a Redis set.
func (b *backend) expectSet(t testing.TB, key string, want ...string) {
	t.Helper()
	got := b.list(t, "SMEMBERS", key)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s is %q, want %q", key, got, want)
	}
}
