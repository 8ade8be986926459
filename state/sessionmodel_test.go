package state

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// sessionModel is one client, its session in Redis, and the journal, with a clock
// that the test moves. Times are milliseconds.
type sessionModel struct {
	t *testing.T
	r *rand.Rand
	b *backend
	e *embedded
	s *Sessions
	c *clients

	now    int64
	epoch  string
	all    []socketio.Offset // entries for the client, after its start
	got    int               // how many of them it received: always the first ones
	after  socketio.Offset   // the last it received
	owner  string            // "" if no conn was ever made
	gen    uint64
	open   bool  // the conn is
	deaf   int64 // when the client stopped to receive; 0 while it does
	silent int64 // from when on the lag counts after which that is noticed
	sent   int   // how many of all were sent on the present conn, or received before
	behind bool  // CaughtUp was not called yet
	signed int64 // sign of the owner
	cut    int64 // of the journal
	trace  []string
}

const (
	modelWindow    = 130_000
	modelLag       = 40_000
	modelRetention = modelWindow + modelLag + 15_000
)

func (m *sessionModel) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf("%7d ", m.now%10_000_000)+fmt.Sprintf(format, args...))
}

func (m *sessionModel) set(now int64) {
	m.now = now
	m.e.redis.SetTime(time.UnixMilli(now))
}

// run calls a script and reads its answer as the operation o.
func (m *sessionModel) run(script int, o *sessionOp, keys []string, args ...string) sessionResult {
	m.t.Helper()
	res := o.read(m.c.cmd.Do(m.t.Context(), m.s.scripts.call(m.c.cmd, script, append([]string{m.s.sessionKey(testPID)}, keys...), args)), m.epoch)
	if res.err != nil {
		m.t.Fatal(res.err)
	}
	return res
}

func decimal[T int64 | uint64 | int](n T) string { return strconv.FormatInt(int64(n), 10) }

func (m *sessionModel) create() {
	j := m.s.journal
	m.owner, m.gen = fmt.Sprintf("node%d.1", m.r.IntN(1000)), 1
	res := m.run(sessionCreate, &sessionOp{kind: opCreate}, []string{j.hashKey(), j.streamKey("/")},
		m.owner, m.epoch, "86400000", testSID, "/", "ann", "")
	m.all, m.got, m.sent, m.after = nil, 0, 0, socketio.Offset{}
	m.open, m.behind = true, false
	m.hears()
	m.sign()
	m.note("created at %v by %s", res.at, m.owner)
}

// sign writes that the owner had the conn until now.
func (m *sessionModel) sign() {
	m.signed = m.now
	m.b.do(m.t, "HSET", m.s.journal.nodesKey(), "@"+m.owner, decimal(m.now))
}

// publish adds an entry, which is for the client or not, and is sent if the conn is open.
func (m *sessionModel) publish() {
	at := m.b.append(m.t, "x")
	if m.r.IntN(3) > 0 || m.owner == "" {
		return
	}
	m.all = append(m.all, at)
	if m.open {
		m.sent = len(m.all)
	}
	m.note("entry %v is for the client", at)
	m.receive()
}

// receive has the client get what was sent, as long as it gets anything.
func (m *sessionModel) receive() {
	if m.deaf == 0 && m.got < m.sent {
		m.got = m.sent
		m.after = m.all[m.got-1]
	}
}

func (m *sessionModel) hears() { m.deaf, m.silent = 0, 0 }

func (m *sessionModel) goesDeaf(how string) {
	m.deaf, m.silent = m.now, m.now
	m.note("deaf%s", how)
}

// move has the conn go to another node, which signs, too. A client that is deaf
// stays so, but the other node has heard of it just before, and notices it anew.
func (m *sessionModel) move() {
	j := m.s.journal
	from, _, _ := strings.Cut(m.owner, ".")
	owner := fmt.Sprintf("node%d.1", m.r.IntN(1_000_000))
	o := &sessionOp{kind: opMove, ref: socketio.SessionRef{PID: testPID, Generation: m.gen + 1}}
	res := m.run(sessionMove, o, []string{j.hashKey(), j.nodesKey(), j.streamKey("/")},
		owner, "move"+decimal(m.now)+owner, "/", testSID, from, decimal(m.gen), decimal(modelLag), "86400000", "from", "to")
	if res.moved == nil {
		m.t.Fatalf("not moved: %v", res.refused)
	}
	m.owner, m.gen = owner, res.moved.Generation
	m.signed = m.now - int64(m.r.IntN(2000))
	m.b.do(m.t, "HSET", j.nodesKey(), "@"+owner, decimal(m.signed))
	m.note("moved to %s at %v", owner, res.moved.At)
	if m.deaf > 0 {
		m.silent = m.now - 1
	} else if m.r.IntN(3) == 0 {
		m.goesDeaf(" as it moves")
	}
}

// end ends the conn at its latest after the lag: closed, or killed with its node.
func (m *sessionModel) end() {
	m.open, m.behind = false, false
	if m.r.IntN(2) == 0 {
		m.note("%s is killed, with the sign %d", m.owner, m.signed%10_000_000)
		return
	}
	m.run(sessionClose, &sessionOp{kind: opClose}, nil, m.owner, decimal(m.gen), decimal(modelWindow), decimal(m.now-int64(m.r.IntN(2000))), decimal(modelLag))
	m.note("closed; the client has %d of %d", m.got, len(m.all))
}

func (m *sessionModel) caughtUp() {
	m.behind = false
	m.run(sessionSave, &sessionOp{kind: opCaughtUp}, nil, m.owner, decimal(m.gen), "86400000", changes[opCaughtUp])
	m.note("caught up")
}

// claim has the client come back to another node. If that succeeds, what it did
// not receive must be in the journal behind its position.
func (m *sessionModel) claim() bool {
	j := m.s.journal
	owner := fmt.Sprintf("node%d.1", m.r.IntN(1_000_000))
	id := ""
	if !m.after.IsZero() {
		id = idOf(m.after)
	}
	o := &sessionOp{kind: opClaim, claim: claimOf(m.after)}
	res := m.run(sessionClaim, o, []string{j.hashKey(), j.nodesKey(), j.streamKey("/")},
		owner, "nonce"+decimal(m.now)+owner, "/", "ann", m.epoch, id, decimal(modelWindow), decimal(modelLag), "86400000", m.s.barPrefix())
	m.note("claimed for %s: %v", owner, res.recovery)
	if res.recovery != metrics.RecoveryComplete {
		return false
	}
	var kept []socketio.Offset
	rows, err := m.c.cmd.Do(m.t.Context(), m.c.cmd.B().Xrange().Key(j.streamKey("/")).Start("("+idOf(res.claimed.After)).End("+").Build()).AsXRange()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, row := range rows {
		at, _ := socketio.ParseEntryID(row.ID)
		at.Epoch = m.epoch
		kept = append(kept, at)
	}
	for _, at := range m.all[m.got:] {
		if !slices.Contains(kept, at) {
			for _, line := range m.trace {
				m.t.Log(line)
			}
			m.t.Fatalf("a hole: entry %v was not received and cannot be read", at)
		}
	}
	m.owner, m.gen, m.open = owner, res.claimed.Generation, true
	m.hears()
	m.sign()
	if m.r.IntN(2) == 0 {
		m.goesDeaf(" at once")
	}
	m.sent = len(m.all)
	m.receive()
	return true
}

// trim does what the journal's janitor does: by age, and now and then by length,
// which may leave less.
func (m *sessionModel) trim() {
	j := m.s.journal
	m.cut = max(m.cut, m.now-modelRetention)
	if m.r.IntN(4) == 0 {
		m.cut = max(m.cut, m.now-m.r.Int64N(2*modelLag))
	}
	cut := m.cut
	m.b.do(m.t, "XTRIM", j.streamKey("/"), "MINID", decimal(cut))
	m.b.do(m.t, "HSET", j.hashKey(), "cut:"+j.streamKey("/"), decimal(cut))
}

// step lets some time go by, and then something happen.
func (m *sessionModel) step(results map[string]int) {
	m.set(m.now + 1 + int64(m.r.IntN([]int{5, 2_000, 30_000, 120_000}[m.r.IntN(4)])))
	if m.open && m.deaf > 0 && m.now >= m.silent+modelLag { // noticed at the latest then
		m.set(m.silent + modelLag)
		m.end()
	}
	if m.open && m.r.IntN(3) > 0 {
		m.sign()
	}
	m.trim()
	switch k := m.r.IntN(13); {
	case k < 4:
		m.publish()
	case k < 5 && m.open && m.behind:
		m.caughtUp()
	case k < 6 && m.open && m.deaf == 0:
		m.goesDeaf("")
	case k < 7 && m.open:
		m.end()
	case k < 10 && m.open:
		m.move()
		results["moved"]++
	case k >= 11 && (!m.open || m.deaf > 0):
		if m.behind = m.claim(); m.behind {
			results["complete"]++
			return
		}
		results["refused"]++
		m.create()
	}
}

// TestSessionModel: whatever happens when, a recovery that is called complete has no hole.
func TestSessionModel(t *testing.T) {
	e := startEmbedded()
	t.Cleanup(e.stop)
	b := observed(t, &backend{name: "in-process", options: e.options()})
	n := b.open(t, "nodeAAAA", func(c *Config) { c.Recovery = true })
	t.Cleanup(func() { _ = n.Close(t.Context()) })
	cmd, err := commandClient(b.options, "model")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cmd.end)
	results := map[string]int{}
	for seed := range uint64(200) {
		m := &sessionModel{
			t: t, r: rand.New(rand.NewPCG(seed, 1)), b: b, e: e, s: n.Sessions(), c: &clients{gen: seed + 1, cmd: cmd, run: decimal(seed)},
		}
		b.do(t, "FLUSHALL")
		m.set(1_700_000_000_000)
		if m.epoch, err = n.Sessions().journal.bind(t.Context(), m.c); err != nil {
			t.Fatal(err)
		}
		if err := m.s.scripts.load(t.Context(), cmd); err != nil {
			t.Fatal(err)
		}
		m.note("seed %d", seed)
		m.create()
		for range 120 {
			m.step(results)
		}
	}
	if results["complete"] < 200 || results["refused"] < 50 || results["moved"] < 200 {
		t.Errorf("the model shows little: %v", results)
	}
	t.Log(results)
}
