package state

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stellara/edge/metrics"
)

// register is the list of leases, with Redis's time as the zero of all numbers.
type register struct {
	t *testing.T
	b *backend
	p *Presence
	c *clients
}

func newRegister(t *testing.T, b *backend) *register {
	n := b.open(t, "nodeAAAA", nil)
	t.Cleanup(func() { _ = n.Close(t.Context()) })
	r := &register{t: t, b: b, p: n.presence, c: &clients{gen: 1, cmd: b.observer}}
	if err := r.p.scripts.load(t.Context(), r.c.cmd); err != nil {
		t.Fatal(err)
	}
	return r
}

// set registers incarnations with leases that end so many milliseconds from now.
func (r *register) set(key string, ends map[string]int64) {
	r.t.Helper()
	r.b.do(r.t, "DEL", key)
	for name, ms := range ends {
		r.b.do(r.t, "ZADD", key, strconv.FormatInt(r.now()+ms, 10), name)
	}
}

func (r *register) now() int64 {
	time := r.b.list(r.t, "TIME")
	sec, _ := strconv.ParseInt(time[0], 10, 64)
	usec, _ := strconv.ParseInt(time[1], 10, 64)
	return sec*1000 + usec/1000
}

func (r *register) run(op metrics.PresenceOp, args ...string) []string {
	r.t.Helper()
	reply, err := r.p.call(r.t.Context(), r.c, op, []string{instKey, deadKey}, args).ToArray()
	if err != nil {
		r.t.Fatal(err)
	}
	out := make([]string, len(reply))
	for i := range reply {
		if n, err := reply[i].AsInt64(); err == nil {
			out[i] = strconv.FormatInt(n, 10)
		} else if out[i], err = reply[i].ToString(); err != nil {
			r.t.Fatal(err)
		}
	}
	return out
}

// Leases of 10 s, a margin of 1 s: who is taken for dead, and by whom.
func TestClaim(t *testing.T) {
	const over, longOver, fresh = -2_000, -12_000, 9_000
	for _, test := range []struct {
		name   string
		inst   map[string]int64
		steady int64 // how long the claimer has seen Redis work
		claims string
		last   int64 // how long ago its last heartbeat was answered
	}{
		{"one of three", map[string]int64{"me": fresh, "b": fresh, "c": over}, 20_000, "c", 2_500},
		{"one of two", map[string]int64{"me": fresh, "b": over}, 20_000, "b", 2_500},
		{"within the margin", map[string]int64{"me": fresh, "b": fresh, "c": -500}, 20_000, "", 2_500},
		{"nobody", map[string]int64{"me": fresh, "b": fresh, "c": 100}, 20_000, "", 2_500},
		{"most at once: likelier a stalled Redis", map[string]int64{"me": fresh, "b": over, "c": over}, 20_000, "", 2_500},
		{"most, and for another lease", map[string]int64{"me": fresh, "b": longOver, "c": longOver}, 20_000, "b c", 2_500},
		{"most, of which one for longer", map[string]int64{"me": fresh, "b": longOver, "c": over}, 20_000, "b", 2_500},
		{"Redis has not worked for long", map[string]int64{"me": fresh, "b": fresh, "c": over}, 10_000, "", 2_500},
		{"just long enough", map[string]int64{"me": fresh, "b": fresh, "c": over}, 11_100, "c", 2_500},
		{"the claim waited in a stalled Redis", map[string]int64{"me": fresh, "b": fresh, "c": over}, 20_000, "", 5_000},
		{"the claimer's lease is over", map[string]int64{"me": -100, "b": fresh, "c": over}, 20_000, "", 2_500},
		{"the claimer is unknown", map[string]int64{"b": fresh, "c": over}, 20_000, "", 2_500},
	} {
		backends(t, func(t *testing.T, b *backend) {
			r := newRegister(t, b)
			r.set(instKey, test.inst)
			r.set(deadKey, map[string]int64{"old": -5, "later": 60_000})
			reply := r.run(metrics.PresenceClaim, "me", strconv.FormatInt(r.now()-test.steady, 10), strconv.FormatInt(r.now()-test.last, 10), "10000", "1000")
			end := slices.Index(reply, "")
			claimed := slices.Clone(reply[3:end])
			slices.Sort(claimed)
			if got := strings.Join(claimed, " "); got != test.claims {
				t.Errorf("%s: claimed %q, want %q", test.name, got, test.claims)
			}
			if reply[1] != strconv.Itoa(len(test.inst)) {
				t.Errorf("%s: %s registered", test.name, reply[1])
			}
			dead := slices.Clone(reply[end+1:])
			if dead[0] != "old" {
				t.Errorf("%s: %q comes before who is dead for longer", test.name, dead[0])
			}
			slices.Sort(dead[1:])
			if !slices.Equal(dead[1:], claimed) {
				t.Errorf("%s: to be reaped are %q", test.name, dead)
			}
			for _, name := range claimed {
				if b.text(t, "ZSCORE", instKey, name) != "" {
					t.Errorf("%s: %s is still registered", test.name, name)
				}
			}
		})
	}
}

func TestHeartbeatAndNominate(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		r := newRegister(t, b)
		beat := func(name, first string) int64 {
			t.Helper()
			reply := r.run(metrics.PresenceHeartbeat, name, "10000", first)
			until, _ := strconv.ParseInt(reply[0], 10, 64)
			return until
		}
		nominate := func(name string, at int64) string {
			t.Helper()
			n, err := r.p.call(t.Context(), r.c, metrics.PresenceNominate, []string{instKey, deadKey}, []string{name, strconv.FormatInt(at, 10)}).AsInt64()
			if err != nil {
				t.Fatal(err)
			}
			return strconv.FormatInt(n, 10)
		}
		if beat("a", "0") != 0 {
			t.Error("an unknown node was renewed")
		}
		if until := beat("a", "1"); until < r.now()+9_000 || until > r.now()+10_000 {
			t.Errorf("the lease ends %d ms from now", until-r.now())
		}
		if beat("a", "0") == 0 || beat("a", "1") == 0 {
			t.Error("a known node was not renewed")
		}
		r.set(instKey, map[string]int64{"a": -60_000})
		if beat("a", "0") == 0 {
			t.Error("a lease that ran out and was not claimed is not renewed")
		}
		if nominate("a", 0) != "0" {
			t.Error("a living node was nominated")
		}
		later := r.now() + 5_000
		if nominate("b", later) != "1" || nominate("b", 0) != "1" {
			t.Error("an unknown node was not nominated")
		}
		if got := b.text(t, "ZSCORE", deadKey, "b"); got != strconv.FormatInt(later, 10) {
			t.Errorf("b may be reaped from %s on, want %d", got, later)
		}
		if beat("b", "1") != 0 || beat("b", "0") != 0 {
			t.Error("a dead node came back")
		}
	})
}
