package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"
)

// patience is how long anything may take that must happen soon. A passing test never waits for it.
const patience = 15 * time.Second

// operation is something a server or a client of a fleet is told to do, as fixtures/fleet-peer.mjs reads it.
type operation struct {
	ID        int      `json:"id"`
	Op        string   `json:"op"`
	Namespace string   `json:"nsp"`
	Rooms     []any    `json:"rooms,omitempty"` // strings, and numbers for Node.js servers
	Except    []any    `json:"except,omitempty"`
	Flags     []string `json:"flags,omitempty"` // volatile, local, uncompressed
	SID       string   `json:"sid,omitempty"`
	Event     string   `json:"event,omitempty"`
	Args      []any    `json:"args"`
	Method    string   `json:"method,omitempty"`  // of a remote socket
	Timeout   int      `json:"timeout,omitempty"` // milliseconds
	Close     bool     `json:"close"`

	// Of clients.
	Client string `json:"client,omitempty"`
	URL    string `json:"url,omitempty"`
	Answer []any  `json:"answer"`          // to whoever asks; nil: none
	Delay  int    `json:"delay,omitempty"` // milliseconds before it answers
}

// reply is how an operation ended. Some have a result and an error.
type reply struct {
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error"`
}

// server is one server of a fleet.
type server interface {
	name() string
	url() string
	// do does something and waits for its end, no longer than patience. It may be called from any goroutine.
	do(o operation) reply
	heard() *inbox[note]
	// partial is the error of a broadcast of which acks of so many clients came, from so many servers.
	partial(acks, clients, answered, servers int) string
}

// note is what the handler of a server-side event that nobody waits for got.
type note struct {
	Namespace string `json:"nsp"`
	Args      []any  `json:"args"`
}

// inbox keeps everything that arrived, in order, and lets tests wait for what has yet to arrive.
type inbox[T any] struct {
	mu      sync.Mutex // taken alone
	items   []T
	changed chan struct{} // closed and replaced whenever items grows
}

func newInbox[T any]() *inbox[T] { return &inbox[T]{changed: make(chan struct{})} }

func (b *inbox[T]) put(item T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.items = append(b.items, item)
	close(b.changed)
	b.changed = make(chan struct{})
}

// all returns what has arrived that matches.
func (b *inbox[T]) all(matches func(T) bool) []T {
	found, _ := b.look(matches)
	return found
}

func (b *inbox[T]) look(matches func(T) bool) ([]T, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []T
	for _, item := range b.items {
		if matches(item) {
			found = append(found, item)
		}
	}
	return found, b.changed
}

// wait waits for n items that match, and returns all that did by then.
func (b *inbox[T]) wait(t *testing.T, what string, n int, matches func(T) bool) []T {
	t.Helper()
	late := time.After(patience)
	for {
		found, changed := b.look(matches)
		if len(found) >= n {
			return found
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("waited %v in vain for %s: %d of %d came", patience, what, len(found), n)
		}
	}
}

// peer is a Node.js server, a child process.
type peer struct {
	id, address string
	cmd         *exec.Cmd
	stdin       io.WriteCloser
	stderr      bytes.Buffer // complete when ended is closed
	ended       chan struct{}
	notes       *inbox[note]

	mu      sync.Mutex // guards the rest, and writes to stdin
	next    int
	pending map[int]chan reply
	clients map[string]*client
}

// startPeer starts a Node.js server that ends with the test.
func startPeer(t *testing.T, name, redisURL string, specific bool) *peer {
	t.Helper()
	cmd := exec.Command("node", "fixtures/fleet-peer.mjs", name, redisURL, strconv.FormatBool(specific))
	ownGroup(cmd)
	p := &peer{
		id: name, cmd: cmd, ended: make(chan struct{}), notes: newInbox[note](),
		pending: make(map[int]chan reply), clients: make(map[string]*client),
	}
	cmd.Stderr = &p.stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	go p.read(stdout, address)
	t.Cleanup(func() {
		_ = endGroup(cmd)
		<-p.ended
		if text := p.stderr.String(); text != "" && t.Failed() {
			t.Logf("output of %s:\n%s", name, text)
		}
	})
	select {
	case p.address = <-address:
	case <-p.ended:
		t.Fatalf("%s ended: %s", name, &p.stderr)
	case <-time.After(patience):
		t.Fatalf("%s did not start within %v", name, patience)
	}
	return p
}

// read takes the peer's lines until it has ended.
func (p *peer) read(stdout io.Reader, address chan<- string) {
	defer close(p.ended)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var line struct {
			reply
			ID     int    `json:"id"`
			URL    string `json:"url"`
			Client string `json:"client"`
			Event  []any  `json:"event"`
			Heard  *note  `json:"heard"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			continue // not ours: what a module printed
		}
		p.mu.Lock()
		done, c := p.pending[line.ID], p.clients[line.Client]
		delete(p.pending, line.ID)
		p.mu.Unlock()
		switch {
		case line.URL != "":
			address <- line.URL
		case line.Heard != nil:
			p.notes.put(*line.Heard)
		case c != nil:
			c.events.put(line.Event)
		case done != nil:
			done <- line.reply
		}
	}
	_ = p.cmd.Wait()
}

func (p *peer) name() string        { return p.id }
func (p *peer) url() string         { return p.address }
func (p *peer) heard() *inbox[note] { return p.notes }

// partial is always the same: Node.js does not say what is missing.
func (*peer) partial(_, _, _, _ int) string { return "operation has timed out" }

// start tells the peer to do something; the reply comes on the channel.
func (p *peer) start(o operation) (<-chan reply, error) {
	if o.Args == nil {
		o.Args = []any{}
	}
	o.Args, _ = tagged(o.Args).([]any)
	if o.Answer != nil {
		o.Answer, _ = tagged(o.Answer).([]any)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	o.ID = p.next
	line, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	done := make(chan reply, 1)
	p.pending[o.ID] = done
	_, err = p.stdin.Write(append(line, '\n'))
	return done, err
}

func (p *peer) do(o operation) reply {
	done, err := p.start(o)
	if err != nil {
		return reply{Error: err.Error()}
	}
	select {
	case r := <-done:
		return r
	case <-p.ended:
		return reply{Error: p.id + " ended: " + p.stderr.String()}
	case <-time.After(patience):
		return reply{Error: fmt.Sprintf("no reply within %v", patience)}
	}
}

// redis sends a command to the fleet's Redis.
func (p *peer) redis(t *testing.T, command ...any) json.RawMessage {
	t.Helper()
	r := p.do(operation{Op: "redis", Args: command})
	if r.Error != "" {
		t.Fatalf("redis %v: %s", command, r.Error)
	}
	return r.Result
}

// client is a socket.io client, which lives in a peer.
type client struct {
	id     string
	home   *peer
	key    string
	events *inbox[[]any]
}

// connect opens a client of a server; o may say how it answers.
func (p *peer) connect(t *testing.T, s server, name string, o operation) *client {
	t.Helper()
	c := &client{home: p, key: name, events: newInbox[[]any]()}
	p.mu.Lock()
	p.clients[name] = c
	p.mu.Unlock()
	o.Op, o.Client, o.URL = "connect", name, s.url()
	r := p.do(o)
	if err := json.Unmarshal(r.Result, &c.id); err != nil || r.Error != "" {
		t.Fatalf("client %s of %s: %v %s", name, s.name(), err, r.Error)
	}
	return c
}

// named returns what the client got of an event: the arguments, each time.
func (c *client) named(event string) [][]any { return c.events.all(isEvent(event)) }

// got waits for an event and returns its arguments.
func (c *client) got(t *testing.T, event string) []any {
	t.Helper()
	return c.events.wait(t, event+" at "+c.key, 1, isEvent(event))[0][1:]
}

func isEvent(name string) func([]any) bool {
	return func(e []any) bool { return e[0] == name }
}
