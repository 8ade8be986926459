package hostile

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stellara/edge/bench/delivery"
	"github.com/stellara/edge/bench/report"
)

// TestToken compares with what jwt.io signs.
func TestToken(t *testing.T) {
	const want = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEifQ."
	got := Token("secret", "ada")
	if !strings.HasPrefix(got, want) || len(got) != len(want)+43 || got == Token("other", "ada") {
		t.Errorf("token %q", got)
	}
}

// plan is short and hits a server at addr.
func plan(addr string) Plan {
	return Plan{Addr: addr, For: 300 * time.Millisecond, Rate: 400, Most: 50, Hold: 100 * time.Millisecond, Sources: 500, Secret: "s", Room: "r", Payload: 10_000}
}

// serve accepts connections until the test ends, and counts the addresses they come from.
func serve(t *testing.T, handle func(net.Conn)) (addr string, sources *sync.Map) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sources = &sync.Map{}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			sources.Store(host, true)
			running.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return l.Addr().String(), sources
}

// TestRun attacks servers that are of no help: it ends, and each attack has one outcome.
func TestRun(t *testing.T) {
	var held atomic.Int64
	for name, handle := range map[string]func(net.Conn){
		"hangs up":     func(net.Conn) {},
		"says nothing": func(c net.Conn) { held.Add(1); _, _ = io.Copy(io.Discard, c); held.Add(-1) },
		"says no":      func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") },
		"talks": func(c net.Conn) {
			_, _ = io.Copy(c, strings.NewReader(strings.Repeat("\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", 1000)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			addr, sources := serve(t, handle)
			tally, err := Run(t.Context(), plan(addr))
			if err != nil {
				t.Fatal(err)
			}
			ended := 0
			for kind, c := range tally.Kinds {
				sum := 0
				for _, n := range c.Results {
					sum += n
				}
				if sum != c.Begun || c.Most > c.Begun || c.Most > plan("").Most {
					t.Errorf("%s: %+v", kind, c)
				}
				ended += sum
			}
			if ended == 0 || ended != tally.Begun() {
				t.Errorf("%d attacks ended of %d", ended, tally.Begun())
			}
			different := 0
			sources.Range(func(any, any) bool { different++; return true })
			if ended > 10 && different < 2 {
				t.Errorf("all from %d addresses", different)
			}
		})
	}
	if held.Load() != 0 {
		t.Errorf("%d connections are still open", held.Load())
	}
}

// TestEveryKindEnds: each way to attack ends when its server hangs up, and when its time is over.
func TestEveryKindEnds(t *testing.T) {
	deaf, _ := serve(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	absent, _ := serve(t, func(net.Conn) {})
	for _, k := range kinds() {
		for _, addr := range []string{deaf, absent} {
			p := plan(addr)
			if o := perform(t.Context(), &p, &k); o != Ended && o != Left {
				t.Errorf("%s ended with %d", k.name, o)
			}
		}
	}
}

func TestBadPlans(t *testing.T) {
	for name, change := range map[string]func(*Plan){
		"rate": func(p *Plan) { p.Rate = 0 }, "at most": func(p *Plan) { p.Most = 0 }, "sources": func(p *Plan) { p.Sources = maxSources + 1 },
		"payload": func(p *Plan) { p.Payload = 10 }, "each for": func(p *Plan) { p.Hold = 0 },
	} {
		p := plan("127.0.0.1:1")
		change(&p)
		if _, err := Run(context.Background(), p); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// whole is a run in which nobody noticed anything.
func whole() *Result {
	r := &Result{Findings: &delivery.Findings{Total: delivery.Counts{Received: 10}}, Phases: make([]Phase, 2)}
	r.Phases[0].Use.Seen(20e6, 1, 50, 60)
	r.Phases[1].Use.Seen(30e6, 2, 70, 80)
	r.Phases[1].Returns = delivery.Tally{Returned: 3, Recovered: 3}
	r.Tally.Kinds = map[string]*Count{"x": {Begun: 5, Most: 2, Holds: 5e6}}
	return r
}

func TestJudge(t *testing.T) {
	r := whole()
	if r.Judge(); !r.Pass || r.MemoryBound() != 40e6 {
		t.Errorf("%+v, bound %d", r.Verdicts, r.MemoryBound())
	}
	for what, change := range map[string]func(*Result){
		"messages lost":                   func(r *Result) { r.Findings.Total.Lost = 1 },
		"twice, out of order":             func(r *Result) { r.Findings.Total.OutOfOrder = 1 },
		"clients disconnected":            func(r *Result) { r.Phases[1].Lost = map[string]int{"close frame": 1} },
		"returns that were not recovered": func(r *Result) { r.Phases[1].Returns.Recovered = 2 },
		"clients and publishers":          func(r *Result) { r.Absent = 1 },
		"connections of attackers":        func(r *Result) { r.LeftPending = 1 },
		"after a panic":                   func(r *Result) { r.Phases[1].Reasons = map[string]map[string]float64{"closed": {"panic": 1}} },
		"most memory":                     func(r *Result) { r.Phases[1].Use.Seen(41e6, 3, 0, 0) },
		"attacks":                         func(r *Result) { r.Tally.Kinds = nil },
		"everything":                      func(r *Result) { r.Findings = nil },
	} {
		r := whole()
		change(r)
		r.Judge()
		var missed []string
		for _, v := range r.Verdicts {
			if v.Result == report.Miss {
				missed = append(missed, v.What)
			}
		}
		if r.Pass || len(missed) == 0 || !strings.Contains(strings.Join(missed, "; "), what) {
			t.Errorf("%s: pass %v, missed %q", what, r.Pass, missed)
		}
		if text := Text(r); !strings.Contains(text, "MISS") {
			t.Errorf("%s: the text says nothing of it:\n%s", what, text)
		}
	}
}
