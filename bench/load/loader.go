//go:build linux

package load

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"time"

	"github.com/stellara/edge/bench/hist"
	"github.com/stellara/edge/websocket"
)

// Loader owns the connections First to Last of a plan. Everything happens in the goroutine that
// calls its methods; between two calls, Pump keeps the connections alive.
type Loader struct {
	plan    Plan
	targets []netip.AddrPort
	clock   Clock
	poll    *poller
	limits  websocket.Limits
	key     string      // Sec-WebSocket-Key, the same for all
	request [][]byte    // opening request by target
	header  http.Header // of every request
	polls   []byte      // the same as text, with Host of plan.Poll

	slow    []bool // by number from plan.First: plan.SlowConns
	conns   []conn // likewise
	buf     []byte // what one read returns
	out     []byte // the frame being sent
	scratch []byte // the payload being built
	now     int64  // time of the latest read
	sawAll  int64  // when the poller last told of everything that there was to read

	online       int   // CONNECT answered and still open
	dialling     int   // handshakes under way
	joined       int   // in all their rooms
	joining      int   // waiting for answers to their joins
	lastUp       int64 // last CONNECT answer or join ack
	connectTimes hist.Histogram
	answerTimes  hist.Histogram // of first events
	failures     map[string]int // why connections failed, closed, or requests were refused
	failed       int            // connections that never came online
	dropped      int            // connections that the server closed
	slowGone     int            // those that had stopped reading
	lastGone     int64          // last end of a connection

	wantPings   uint16
	enoughPings int

	checks   Checks
	seqs     []uint32 // by sender: messages sent by this process
	nextAck  int
	sent     uint64
	acked    uint64
	refused  uint64
	events   uint64 // events that are not messages
	received uint64 // deliveries since the last step settled
	run      *run   // the step under way or settling, nil otherwise
}

// New returns a Loader without connections.
func New(plan Plan) (*Loader, error) {
	if err := plan.Validate(); err != nil {
		return nil, err
	}
	clock, err := NewClock()
	if err != nil {
		return nil, err
	}
	poll, err := newPoller()
	if err != nil {
		return nil, err
	}
	l := &Loader{
		plan: plan, clock: clock, poll: poll,
		limits:   websocket.Limits{MaxMessage: 16 << 20},
		key:      base64.StdEncoding.EncodeToString([]byte("stellara edge b!")),
		header:   requestHeader(plan.Browser),
		conns:    make([]conn, plan.Last-plan.First),
		buf:      make([]byte, 64<<10),
		failures: map[string]int{},
	}
	l.slow = plan.SlowConns()[plan.First:plan.Last]
	l.nextAck = l.joinAcks()
	if plan.Rooms > 0 {
		l.seqs = make([]uint32, plan.Rooms*plan.Senders)
	}
	for i := range l.conns {
		l.conns[i].fd = -1
	}
	for _, t := range plan.Targets {
		addr, err := netip.ParseAddrPort(t)
		if err != nil {
			return nil, fmt.Errorf("load: target %q: %w", t, err)
		}
		l.targets = append(l.targets, addr)
		l.request = append(l.request, l.openingRequest(t, ""))
	}
	if plan.Poll != "" {
		l.polls = pollHeader(plan.Poll, l.header)
	}
	return l, nil
}

// requestHeader is what requests have in their headers besides what HTTP and WebSocket need. A browser also
// offers permessage-deflate; this client cannot inflate, so it does not.
func requestHeader(browser bool) http.Header {
	h := http.Header{}
	if browser {
		for k, v := range map[string]string{
			"Origin":          "https://app.stellara.example",
			"User-Agent":      "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
			"Accept-Encoding": "gzip, deflate, br, zstd",
			"Accept-Language": "en-US,en;q=0.9,de-DE;q=0.8,de;q=0.7",
			"Cache-Control":   "no-cache",
			"Pragma":          "no-cache",
			"Cookie": "_ga=GA1.1.1234567890.1712345678; _ga_ABCDEFGHIJ=GS1.1.1712345678.12.1.1712349999.0.0.0; " +
				"theme=dark; locale=en; session=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwi" +
				"aWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJVadQssw5c",
		} {
			h.Set(k, v)
		}
	}
	return h
}

// openingRequest is the request for a WebSocket, of a client that starts on it or, with the Engine.IO sid
// of a session, of one that upgrades.
func (l *Loader) openingRequest(host, sid string) []byte {
	path := "/socket.io/?EIO=4&transport=websocket"
	if sid != "" {
		path += "&sid=" + sid
	}
	return websocket.AppendRequest(nil, websocket.ClientHandshake{Host: host, Path: path, Key: l.key, Header: l.header})
}

// idleWait is the longest sleep of the loop, and so how late it notices a command.
const idleWait = 5 * time.Millisecond

// Pump serves the connections for one wait of at most d.
func (l *Loader) Pump(d time.Duration) error {
	events, err := l.poll.wait(d)
	if err != nil {
		return err
	}
	asked := l.clock.Now()
	for _, ev := range events {
		l.ready(int(ev.Fd), ev.Events)
		if l.run != nil && l.now >= l.run.nextDue {
			l.sendDue()
		}
	}
	l.countReadLag(len(events))
	if len(events) < cap(l.poll.events[:]) {
		l.sawAll = asked
	}
	return nil
}

// countReadLag takes the lag of a pass into the figures of a step. What a pass reads came after the last
// one that had seen everything there was, so that it waited no longer than since then. A client that is
// not the bottleneck sees everything in most of its passes.
func (l *Loader) countReadLag(events int) {
	r := l.run
	if r == nil || events == 0 || l.now < r.from || l.now >= r.to {
		return
	}
	r.settled.ReadLag.Record(clockDiff(l.now, max(l.sawAll, r.from)))
}

// pumpUntil serves the connections until done or until the monotonic time deadline, and says whether
// it was done.
func (l *Loader) pumpUntil(deadline int64, done func() bool) (bool, error) {
	for !done() {
		left := l.clock.Until(deadline)
		if left <= 0 {
			return false, nil
		}
		if err := l.Pump(min(left, idleWait)); err != nil {
			return false, err
		}
	}
	return true, nil
}

// drop ends connection i and keeps the reason.
func (l *Loader) drop(i int, reason error) {
	c := &l.conns[i]
	if c.phase == gone {
		return
	}
	c.close()
	c.endPolling()
	switch {
	case c.phase < online:
		l.dialling--
		l.failed++
		l.complain("connect: " + reason.Error())
	case !c.retired && c.reading != reads:
		l.online--
		l.slowGone++
	case !c.retired:
		l.online--
		l.dropped++
		l.complain("dropped: " + reason.Error())
		if c.joining > 0 {
			c.joining = 0
			l.joining--
		}
	default:
		l.online--
	}
	c.phase, c.unread = gone, nil
	c.reader = websocket.Reader{}
	l.lastGone = l.clock.Now()
}

// complain counts a failure by its text; after many different ones, by nothing.
func (l *Loader) complain(text string) {
	if _, known := l.failures[text]; !known && len(l.failures) >= 20 {
		text = "others"
	}
	l.failures[text]++
}

// Failures returns the reasons of everything that failed so far, with their numbers.
func (l *Loader) Failures() map[string]int { return maps.Clone(l.failures) }

func clockDiff(now, then int64) time.Duration { return time.Duration(now - then) }
