//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/stellara/edge/bench/delivery"
	"github.com/stellara/edge/bench/hist"
	"github.com/stellara/edge/bench/hostile"
	"github.com/stellara/edge/bench/report"
)

// attackersArg makes the program a process of attackers: it reads a plan from one file and writes what it did to
// another.
const attackersArg = "attackers"

func attackers(ctx context.Context, planFile, tallyFile string) error {
	text, err := os.ReadFile(planFile)
	if err != nil {
		return err
	}
	var plan hostile.Plan
	if err := json.Unmarshal(text, &plan); err != nil {
		return fmt.Errorf("%s: %w", planFile, err)
	}
	tally, err := hostile.Run(ctx, plan)
	if err != nil {
		return err
	}
	_, err = writeJSON(filepath.Dir(tallyFile), filepath.Base(tallyFile), tally)
	return err
}

// hostileSecret signs the tokens of all users of the scenario, attackers who are users included.
const hostileSecret = "what the benchmark's issuer of tokens knows"

// hostilePayload is the node's MAX_PAYLOAD.
const hostilePayload = 1_000_000

func (c *config) attackPlan(addr string) hostile.Plan {
	f := &c.hostile
	return hostile.Plan{
		Addr: addr, For: f.lasts, Rate: f.attacks, Most: f.most, Hold: f.hold, Sources: f.sources,
		Secret: hostileSecret, Room: mainRoom(0), Payload: hostilePayload,
	}
}

// Phases of the run.
const (
	phaseQuiet = iota
	phaseHostile
	hostilePhases
)

// hostileScenario is the run under way. Its methods are for the main goroutine, which starts processes.
type hostileScenario struct {
	*deliveryRun                 // the stack, the publishers, the clients that stay
	returning    *delivery.Crowd // those that are dropped and come back
	res          *hostile.Result

	mu      sync.Mutex // guards the rest
	current int        // phase
	latency [hostilePhases]hist.Histogram
	use     [hostilePhases]hostile.Use
}

// hostileRun leads a node through the scenario, prints what became of it and writes the file. The error says what
// failed.
func hostileRun(ctx context.Context, cfg config, out io.Writer) error {
	write, err := loopbackWrite()
	if err != nil {
		return err
	}
	h := &hostileScenario{
		deliveryRun: &deliveryRun{cfg: cfg, out: out, began: time.Now(), sys: &delivery.System{Name: systemEdge}, phases: hostilePhases},
		res: &hostile.Result{
			Started: time.Now(), Machine: machine(write), Rooms: cfg.rooms, Rate: cfg.rates[0],
			QuietSeconds: cfg.duration.Seconds(), Seconds: cfg.hostile.lasts.Seconds(), Plan: cfg.attackPlan(""),
		},
	}
	defer h.end()
	err = h.run(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		h.res.Broken = err.Error()
	}
	h.res.Judge()
	fmt.Fprint(out, hostile.Text(h.res))
	path, errWrite := writeJSON(cfg.out, "bench-"+cfg.scenario+".json", h.res)
	if errWrite == nil {
		fmt.Fprintf(out, "\n%s\n", path)
	}
	if err == nil && !h.res.Pass {
		err = errors.New("hostile: the clients noticed, or the node kept more than it may")
	}
	return errors.Join(err, errWrite)
}

// end ends everything the run has started.
func (h *hostileScenario) end() {
	if h.returning != nil {
		h.returning.Close()
	}
	h.close()
}

func (h *hostileScenario) run(ctx context.Context) error {
	if err := h.prepare(ctx); err != nil {
		return err
	}
	if err := h.stage(ctx, phaseQuiet, func(ctx context.Context) error { return pause(ctx, h.cfg.duration) }); err != nil {
		return err
	}
	if err := h.stage(ctx, phaseHostile, h.attack); err != nil {
		return err
	}
	return h.conclude(ctx)
}

// prepare starts the node, connects the clients and lets messages flow.
func (h *hostileScenario) prepare(ctx context.Context) (err error) {
	h.say("starting a node")
	cfg := h.cfg
	cfg.env = append([]string{"AUTH=jwt", "AUTH_JWT_SECRET=" + hostileSecret, "DEFLATE=on", fmt.Sprintf("MAX_PAYLOAD=%d", hostilePayload)}, cfg.env...)
	if h.stack, err = startChaosStack(ctx, cfg, systemEdge); err != nil {
		return err
	}
	h.fleet = delivery.NewFleet([]string{h.stack.nodes[0].listen})
	h.fleet.Token = func(user string) string { return hostile.Token(hostileSecret, user) }
	for room := range cfg.rooms {
		h.pubs = append(h.pubs, delivery.NewPublisher(h.fleet, mainRoom(room), room, true))
	}
	h.res.Returning = cfg.conns / 10
	h.res.Staying = cfg.conns - h.res.Returning
	h.say("connecting %d clients", cfg.conns)
	h.crowd = h.newCrowd("stays", h.res.Staying, h.read)
	h.returning = h.newCrowd("returns", h.res.Returning, delivery.Numbered)
	if err := h.await(ctx, "everybody to be there", func() bool { return h.crowd.Absent()+h.returning.Absent() == 0 }); err != nil {
		return err
	}
	h.publish()
	h.calm = h.returning.Drops(cfg.delivery.every, cfg.delivery.away)
	return pause(ctx, cfg.warmup)
}

func (h *hostileScenario) newCrowd(prefix string, clients int, read func([]byte) (int, uint64, bool)) *delivery.Crowd {
	return delivery.NewCrowd(h.fleet, delivery.Plan{
		Prefix: prefix, Clients: clients, Home: -1, Dialing: h.cfg.dialing, Notice: time.Second,
		Rooms: func(i int) []int { return []int{i % h.cfg.rooms} }, Room: mainRoom,
		Streams: func(room int) []int { return []int{room} },
		Due:     func(stream int) uint64 { return h.pubs[stream].Begun() + 1 },
		Read:    read,
	})
}

// read is Numbered for clients that stay, and takes the time that the message needed.
func (h *hostileScenario) read(event []byte) (stream int, n uint64, ok bool) {
	stream, n, ok = delivery.Numbered(event)
	if !ok || stream >= len(h.pubs) {
		return stream, n, ok
	}
	if at, known := h.pubs[stream].SentAt(n); known {
		took := time.Duration(time.Now().UnixNano() - at)
		h.mu.Lock()
		h.latency[h.current].Record(took)
		h.mu.Unlock()
	}
	return stream, n, ok
}

// stage is a phase: it does something while the use of the node is looked at every second.
func (h *hostileScenario) stage(ctx context.Context, number int, do func(context.Context) error) error {
	h.fleet.Phase(number)
	h.mu.Lock()
	h.current = number
	h.mu.Unlock()
	before, err := h.reasons(ctx)
	if err != nil {
		return err
	}
	stop, looked := make(chan struct{}), make(chan error, 1)
	go func() { looked <- h.look(ctx, number, stop) }()
	err = do(ctx)
	close(stop)
	if err = errors.Join(err, <-looked, h.stack.died()); err != nil {
		return err
	}
	after, err := h.reasons(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	p := hostile.Phase{Use: h.use[number], Latency: report.NewLatency(&h.latency[number]), Reasons: map[string]map[string]float64{}}
	p.Latency.Curve, p.Latency.Bars = nil, nil
	for metric := range after {
		if d := less(after[metric], before[metric]); len(d) > 0 {
			p.Reasons[metric] = d
		}
	}
	for _, c := range []*delivery.Crowd{h.crowd, h.returning} {
		for cause, n := range c.TakeEvents().Lost {
			if p.Lost == nil {
				p.Lost = map[string]int{}
			}
			p.Lost[cause] += n
		}
	}
	p.Returns = delivery.TallyOf(h.returning.Returns(number), time.Time{})
	h.res.Phases = append(h.res.Phases, p)
	h.say("%s: RSS %.0f to %.0f MB, p50 %.1f ms, p99 %.1f ms, %d of %d returns recovered, %d clients disconnected", hostile.PhaseName(number),
		float64(p.Use.LeastRSS)/1e6, float64(p.Use.MostRSS)/1e6, p.Latency.P50, p.Latency.P99, p.Returns.Recovered, p.Returns.Returned, p.Disconnected())
	return nil
}

// reasons reads what the node has refused and closed so far.
func (h *hostileScenario) reasons(ctx context.Context) (map[string]map[string]float64, error) {
	text, err := scrape(ctx, h.stack.nodes[0].admin)
	if err != nil {
		return nil, err
	}
	return map[string]map[string]float64{
		"refused": labelled(text, "edge_refusals_total", "reason"), "closed": labelled(text, "edge_closes_total", "reason"),
		"dropped": labelled(text, "edge_drops_total", "reason"),
	}, nil
}

// look reads the use of the node until stop is closed.
func (h *hostileScenario) look(ctx context.Context, number int, stop <-chan struct{}) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		use, err := usageOf(h.stack.nodes[0].process.cmd.Process.Pid)
		if err != nil {
			return err
		}
		text, _ := scrape(ctx, h.stack.nodes[0].admin) // a look without it says less
		h.mu.Lock()
		h.use[number].Seen(use.rss, use.cpu, metricNumber(text, "go_goroutines"), metricNumber(text, "process_open_fds"))
		h.mu.Unlock()
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
	}
}

// attack lets a process of attackers do what is planned.
func (h *hostileScenario) attack(ctx context.Context) error {
	plan := h.cfg.attackPlan(h.stack.nodes[0].listen)
	planFile, err := writeJSON(h.stack.dir, "attack.json", plan)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	tallyFile := filepath.Join(h.stack.dir, "attacked.json")
	p, err := start("attackers", h.stack.dir, nil, exe, attackersArg, planFile, tallyFile)
	if err != nil {
		return err
	}
	defer p.kill()
	late := time.NewTimer(plan.For + plan.Hold + h.cfg.chaos.patience)
	defer late.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			text, err := os.ReadFile(tallyFile)
			if err != nil {
				return p.failure("did not say what it did")
			}
			return json.Unmarshal(text, &h.res.Tally)
		case <-late.C:
			return p.failure("does not end")
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := h.stack.died(); err != nil {
				return err
			}
		}
	}
}

// conclude lets everybody be there, ends the messages, and judges what was received.
func (h *hostileScenario) conclude(ctx context.Context) error {
	h.calm()
	h.calm = nil
	there := func() bool { return h.crowd.Absent()+h.returning.Absent() == 0 }
	if _, err := h.hopeFor(ctx, there); err != nil {
		return err
	}
	h.silence()
	last := map[int]uint64{}
	for room, p := range h.pubs {
		last[room] = p.Acked()
		h.res.Published += p.Acked()
		if p.Acked() != p.Begun() {
			h.res.Unsettled++
		}
	}
	if _, err := h.hopeFor(ctx, func() bool { return there() && h.crowd.Lacking(last)+h.returning.Lacking(last) == 0 }); err != nil {
		return err
	}
	if err := pause(ctx, settleFor); err != nil {
		return err
	}
	h.res.Absent = h.crowd.Absent() + h.returning.Absent()
	h.res.Findings = delivery.Check(slices.Concat(h.crowd.Histories(), h.returning.Histories()), last, make([]bool, hostilePhases))
	return h.leftovers(ctx)
}

// leftovers reads what is left of the attackers when they are gone: connections in waiting, and conns.
func (h *hostileScenario) leftovers(ctx context.Context) error {
	for end := time.Now().Add(h.cfg.chaos.patience); ; {
		text, err := scrape(ctx, h.stack.nodes[0].admin)
		if err != nil {
			return err
		}
		conns := 0.0
		for n := range maps.Values(labelled(text, "edge_conns", "transport")) {
			conns += n
		}
		h.res.Left = int(conns) - h.cfg.conns - len(h.pubs)
		h.res.LeftPending = int(metricNumber(text, "edge_pending_connections"))
		if h.res.Left <= 0 && h.res.LeftPending == 0 || time.Now().After(end) {
			return nil
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}
