package state

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// replies is a Redis that answers every command with what it was last given.
type replies struct {
	mu   sync.Mutex // guards next; taken alone
	next []string   // encoded; the first is for the next command, the last for all that follow
}

// client connects to it.
func (r *replies) client(t testing.TB) rueidis.Client {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{"replies"}, ForceSingleClient: true, DisableCache: true, DisableRetry: true, AlwaysRESP2: true,
		AlwaysPipelining: true, PipelineMultiplex: -1,
		DialCtxFn: func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
			near, far := net.Pipe()
			go r.serve(far)
			return near, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// serve answers the commands of one connection until it ends.
func (r *replies) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		words, err := readCommand(in)
		if err != nil {
			return
		}
		reply := "+OK\r\n" // to what a client says of itself
		if words[0] != "CLIENT" && words[0] != "PING" {
			r.mu.Lock()
			reply = r.next[0]
			if len(r.next) > 1 {
				r.next = r.next[1:]
			}
			r.mu.Unlock()
		}
		if _, err := io.WriteString(conn, reply); err != nil {
			return
		}
	}
}

// readCommand reads an array of bulk strings.
func readCommand(in *bufio.Reader) ([]string, error) {
	number := func(kind byte) (int, error) {
		line, err := in.ReadString('\n')
		if err != nil || line[0] != kind {
			return 0, errors.Join(err, io.ErrUnexpectedEOF)
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number('*')
	words := make([]string, max(n, 1))
	for i := 0; i < n && err == nil; i++ {
		var size int
		if size, err = number('$'); err == nil {
			text := make([]byte, size+2)
			_, err = io.ReadFull(in, text)
			words[i] = string(text[:max(0, len(text)-2)])
		}
	}
	return words, err
}

// encodeReply makes a reply of text: fields between zero bytes are an array, one
// field alone is itself. A field begins with what it is: ":" a number, "-" an error,
// "_" nothing, "[" an array of what is between tabs; anything else is text.
func encodeReply(text string) string {
	fields := strings.Split(text, "\x00")
	if len(fields) == 1 {
		return encodeField(text, "\t")
	}
	out := "*" + strconv.Itoa(len(fields)) + "\r\n"
	for _, f := range fields {
		out += encodeField(f, "\t")
	}
	return out
}

func encodeField(f, separator string) string {
	if f == "_" {
		return "$-1\r\n"
	}
	if n, err := strconv.ParseInt(strings.TrimPrefix(f, ":"), 10, 64); err == nil && f[0] == ':' {
		return ":" + strconv.FormatInt(n, 10) + "\r\n"
	}
	if rest, ok := strings.CutPrefix(f, "-"); ok {
		return "-" + strings.NewReplacer("\r", " ", "\n", " ").Replace(rest) + "\r\n"
	}
	if rest, ok := strings.CutPrefix(f, "["); ok && separator != "" {
		parts := strings.Split(rest, separator)
		out := "*" + strconv.Itoa(len(parts)) + "\r\n"
		for _, p := range parts {
			out += encodeField(p, "")
		}
		return out
	}
	return "$" + strconv.Itoa(len(f)) + "\r\n" + f + "\r\n"
}

// FuzzReplies: whatever Redis, or what stands in its place, answers, each reader
// returns something that is whole or an error.
func FuzzReplies(f *testing.F) {
	for _, seed := range []string{
		"epoch\x00:3\x00:2\x00ann\x00bob", "epoch\x00:1\x00:-1", "epoch\x00:1\x00:9223372036854775807", "e\x001\x00run", ":-1", "_", "-ERR no",
		"[a\tb\x00:1\x00epoch\x00:3", "OK\x000 7 x\x00why", "ORDER\x0018446744073709551615", "EPOCH", "REFUSED\x00full",
		"x\x00AAAAAAAA\x001-1\x0017\x000-0\x002\x00sid\x00user\x00{}\x00owner\x00room\x001-0", "2\x00AAAAAAAA\x001-1", "GONE", "1-1",
		"AAAAAAAA\x001-1", "[1-1\tm", "UNKNOWN", "3\x00e\x00",
	} {
		f.Add(seed, "AAAAAAAA\x001-1\x00")
	}
	redis := &replies{next: []string{"+OK\r\n"}}
	c := redis.client(f)
	m := metrics.New(prometheus.NewRegistry(), "test")
	j := newJournal(Config{Key: "k", Recovery: true}, "me", m)
	f.Fuzz(func(t *testing.T, first, second string) {
		one, two := encodeReply(first), encodeReply(second)
		give := func(encoded ...string) {
			redis.mu.Lock()
			redis.next = encoded
			redis.mu.Unlock()
		}
		give(one)
		r := c.Do(t.Context(), c.B().Get().Key("k").Build())
		checkPresenceReplies(t, r)
		checkSessionReplies(t, r)
		if got := readReply(r); got.status == replyLost || got.status == replyUnsent || got.status == replyError && got.err == nil {
			t.Errorf("publish: %+v", got)
		}
		if list, err := texts(r, "a script", 3); err == nil && len(list) < 3 {
			t.Errorf("%d texts", len(list))
		}
		give(one, two)
		p, err := j.read(t.Context(), &clients{journal: &client{Client: c}}, "stream", socketio.Offset{}, 10)
		for _, e := range p.entries {
			if err != nil || len(e.Payload) == 0 {
				t.Errorf("read %+v, %v", e, err)
			}
		}
		if n := nextCount(p); n < 1 || n > pageEntries {
			t.Errorf("the next page has %d entries", n)
		}
	})
}

func checkPresenceReplies(t *testing.T, r rueidis.RedisResult) {
	t.Helper()
	snap, err := parseSnapshot("room", r)
	if snap.Count < 0 || snap.Count <= smallRoom && err == nil && len(snap.Users) != snap.Count || !slices.IsSorted(snap.Users) {
		t.Errorf("snapshot %+v, %v", snap, err)
	}
	_ = parseResult(metrics.PresenceHold, r)
	fields, err := r.AsStrSlice()
	if at, err := parsePosition(fields, err, "run"); err == nil && at.epoch != "" && fields[2] != "run" && !strings.HasSuffix(at.epoch, "~run") {
		t.Errorf("position %+v of another run", at)
	}
	for _, record := range fields {
		if owner, generation, err := parseOwner(record); err == nil && !strings.HasPrefix(record, owner+".") {
			t.Errorf("%q is read as %q, %d", record, owner, generation)
		}
	}
}

func checkSessionReplies(t *testing.T, r rueidis.RedisResult) {
	t.Helper()
	for kind := opCreate; kind <= opMove; kind++ {
		o := &sessionOp{kind: kind, session: &socketio.Session{}, ref: socketio.SessionRef{PID: testPID, Generation: 2}, claim: socketio.SessionClaim{PID: testPID}}
		res := o.read(r, "AAAAAAAA")
		switch {
		case res.claimed != nil && (res.err != nil || kind != opClaim || res.claimed.After.IsZero() || res.claimed.Start.IsZero()):
			t.Errorf("claim: %+v", res)
		case res.moved != nil && (res.err != nil || kind != opMove || res.moved.Generation != 2 || res.moved.At.IsZero()):
			t.Errorf("move: %+v", res)
		}
		for _, room := range claimedRooms(res) {
			if room.Since.IsZero() {
				t.Errorf("room %+v since never", room)
			}
		}
	}
}

func claimedRooms(r sessionResult) []socketio.SessionRoom {
	if r.claimed == nil {
		return nil
	}
	return r.claimed.Rooms
}

// FuzzPresenceEvent: whatever is published as a change of a room's presence, what
// members are told afterwards makes sense and is bounded by it.
func FuzzPresenceEvent(f *testing.F) {
	for _, seed := range []string{
		`{"epoch":"e","seq":2,"joined":["ann"],"left":["bob"],"count":1}`, `{"epoch":"e","seq":3,"left":["ann"],"count":0,"grace":true}`,
		`{"epoch":"f","seq":1,"count":-1}`, `{"epoch":"e","seq":18446744073709551615,"joined":["",""]}`, `{"epoch":"","seq":1}`, `[]`,
	} {
		f.Add(seed, seed, uint16(500))
	}
	f.Fuzz(func(t *testing.T, first, second string, ms uint16) {
		w := newWindows(100*time.Millisecond, time.Second)
		now := time.Unix(0, 0)
		w.beginRead("r")
		w.endRead("r", position{"e", 1}, true)
		given := map[string]bool{}
		for _, payload := range []string{first, second} {
			e, err := parsePresenceEvent(payload)
			if err != nil {
				continue
			}
			for _, user := range slices.Concat(e.Joined, e.Left) {
				given[user] = true
			}
			w.add("r", e, now)
			now = now.Add(time.Duration(ms) * time.Millisecond)
		}
		for range 3 {
			for _, u := range w.due(now) {
				for _, user := range slices.Concat(u.Joined, u.Left) {
					if !given[user] {
						t.Errorf("told of %q in %+v", user, u)
					}
				}
				if u.Room != "r" || !slices.IsSorted(u.Joined) || !slices.IsSorted(u.Left) || u.Full {
					t.Errorf("told %+v", u)
				}
			}
			now = now.Add(2 * time.Second)
		}
		if at, open := w.next(); open {
			t.Errorf("a window is open until %v", at)
		}
	})
}

// FuzzChannel: whatever arrives on whatever channel, in whatever order, nothing
// panics and nothing is delivered for a room that is not the channel's.
func FuzzChannel(f *testing.F) {
	for _, seed := range [][2]string{
		{"socket.io#/#", "x"}, {"socket.io#/#room#", "\x93"}, {"socket.io#/#room", ""}, {"socket.io-request#/#", `{"type":1}`},
		{"socket.io-response#/#", `{"requestId":"a"}`}, {presenceChannel("r"), `{"epoch":"e","seq":1}`}, {"socket.io-node#me#", "probe 1 AAAAAAAA 1-1"},
		{"control", "drop 2 sid /"}, {"control", "probe 18446744073709551615 AAAAAAAA 1-1,2-2,"}, {"control", "cut 2 sid AAAAAAAA 1-2 /"}, {"control", "drop x"},
	} {
		f.Add(seed[0], "", seed[1])
		f.Add(seed[0], presencePattern, seed[1])
	}
	options, err := parseURL("redis://127.0.0.1:1")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, channel, pattern, payload string) {
		n := (&backend{options: options}).open(t, "nodeAAAA", nil)
		n.Bus().Open("/")
		n.Bus().Open("/chat")
		n.bus.deliverer, n.bus.responder = roomCheck{t, channel, n.recorder}, n.recorder
		if channel == "control" {
			channel = n.bus.control
		}
		n.bus.receive(rueidis.PubSubMessage{Channel: channel, Pattern: pattern, Message: payload})
	})
}

// roomCheck is a recorder that looks at where deliveries come from.
type roomCheck struct {
	t       *testing.T
	channel string
	*recorder
}

// Deliver implements Deliverer.
func (c roomCheck) Deliver(ns, room string, payload []byte) {
	if !strings.Contains(c.channel, "#"+ns+"#"+room) {
		c.t.Errorf("delivered to %q of %q from %q", room, ns, c.channel)
	}
}

// FuzzRedisURL: what is refused says why without saying what was given, which may
// hold a password.
func FuzzRedisURL(f *testing.F) {
	for _, seed := range []string{"redis://:secret@h:1", "rediss://u:secret@h:1/2", "redis://h:99999999", "unix:///secret", "redis://[::1", "redis://secret@h?addr=x", "%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, password string) {
		for _, form := range []string{"redis://u:%s@host:6379/0", "redis://host:%s", "%s"} {
			url := fmt.Sprintf(form, password)
			o, err := parseURL(url)
			if err != nil && len(password) > 12 && strings.Contains(err.Error(), url) {
				t.Errorf("%q is refused with %v", url, err)
			}
			if err == nil && o.name == "" && o.base.DialCtxFn == nil {
				t.Errorf("%q has no address", url)
			}
		}
	})
}
