//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stellara/edge/bench/delivery"
)

// deliveryRun is one system's way through the faults. Its methods are for the main goroutine, which starts
// processes.
type deliveryRun struct {
	cfg     config
	out     io.Writer
	began   time.Time
	stack   *chaosStack
	fleet   *delivery.Fleet
	crowd   *delivery.Crowd
	pubs    []*delivery.Publisher
	meter   *resultMeter
	sys     *delivery.System
	faults  []string // by phase
	phases  int      // so far
	calm    func()   // ends the drops; nil if there are none
	silence func()   // ends the publishers; nil if there are none
}

// chaosDelivery runs all faults on all systems, prints the tables and writes the file. The error says what
// failed.
func chaosDelivery(ctx context.Context, cfg config, out io.Writer) error {
	write, err := loopbackWrite()
	if err != nil {
		return err
	}
	run := &delivery.Run{
		Scenario: cfg.scenario, Started: time.Now(), Machine: machine(write), Nodes: cfg.nodes, Clients: cfg.conns, Rooms: cfg.rooms,
		Rate: cfg.rates[0], EverySeconds: cfg.delivery.every.Seconds(), AwaySeconds: cfg.delivery.away.Seconds(), Pass: true,
	}
	systems := cfg.systems()
	slices.Reverse(systems) // the edge first
	var errs error
	for _, name := range systems {
		sys, err := deliverySystem(ctx, cfg, name, out)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			sys.Broken = err.Error()
			errs = errors.Join(errs, fmt.Errorf("%s: %w", name, err))
		}
		sys.Judge()
		if name == systemEdge && !sys.Passed() {
			run.Pass = false
			errs = errors.Join(errs, fmt.Errorf("%s: %s failed", cfg.scenario, name))
		}
		run.Systems = append(run.Systems, *sys)
	}
	fmt.Fprint(out, delivery.Text(run))
	path, err := writeJSON(cfg.out, "bench-"+cfg.scenario+".json", run)
	if err == nil {
		fmt.Fprintf(out, "\n%s\n", path)
	}
	return errors.Join(errs, err)
}

// deliverySystem leads one system through its faults. The result is what was found until the error.
func deliverySystem(ctx context.Context, cfg config, name string, out io.Writer) (*delivery.System, error) {
	r := &deliveryRun{cfg: cfg, out: out, began: time.Now(), sys: &delivery.System{Name: name}}
	defer r.close()
	r.faults = listFlag(cfg.chaos.faults)
	if name == systemNode {
		r.faults = listFlag(cfg.delivery.nodeFaults)
		r.cfg.env = append(slices.Clone(cfg.env), "RECOVERY=on")
	}
	if err := r.begin(ctx); err != nil {
		return r.sys, err
	}
	for i, fault := range r.faults {
		if err := r.phase(ctx, i, deliveryFaults()[slices.Index(deliveryFaultNames(), fault)]); err != nil {
			r.check(nil)
			return r.sys, fmt.Errorf("%s: %w", fault, err)
		}
	}
	return r.sys, r.finish(ctx)
}

// say prints a line of progress.
func (r *deliveryRun) say(format string, args ...any) {
	fmt.Fprintf(r.out, "%s %6.1f s  "+format+"\n", append([]any{r.sys.Name, time.Since(r.began).Seconds()}, args...)...)
}

// begin starts the system, connects everybody, and lets messages flow and clients be dropped.
func (r *deliveryRun) begin(ctx context.Context) (err error) {
	r.say("starting %d nodes", r.cfg.nodes)
	if r.stack, err = startChaosStack(ctx, r.cfg, r.sys.Name); err != nil {
		return err
	}
	var addrs []string
	for _, n := range r.stack.nodes {
		addrs = append(addrs, n.listen)
	}
	if err := r.connect(ctx, addrs); err != nil {
		return err
	}
	r.calm = r.crowd.Drops(r.cfg.delivery.every, r.cfg.delivery.away)
	return nil
}

// connect has everybody connect to these addresses and lets messages flow.
func (r *deliveryRun) connect(ctx context.Context, addrs []string) (err error) {
	r.fleet = delivery.NewFleet(addrs)
	if r.sys.Name == systemEdge {
		r.meter = startResultMeter(r.stack)
		if r.sys.IDs, err = delivery.TakesIDs(ctx, addrs[0]); err != nil {
			return err
		}
		if !r.sys.IDs {
			r.say("it does not take messages with ids, so that a message that is repeated may come twice")
		}
	}
	for room := range r.cfg.rooms {
		r.pubs = append(r.pubs, delivery.NewPublisher(r.fleet, mainRoom(room), room, r.sys.IDs))
	}
	r.say("connecting %d clients", r.cfg.conns)
	r.crowd = delivery.NewCrowd(r.fleet, delivery.Plan{
		Prefix: "client", Clients: r.cfg.conns, Home: -1, Dialing: r.cfg.dialing, Notice: time.Second,
		Rooms: func(i int) []int { return []int{i % r.cfg.rooms} }, Room: mainRoom,
		Streams: func(room int) []int { return []int{room} },
		Due:     func(stream int) uint64 { return r.pubs[stream].Begun() + 1 },
		Read:    delivery.Numbered,
	})
	if err := r.await(ctx, "everybody to be there", func() bool { return r.crowd.Absent() == 0 }); err != nil {
		return err
	}
	r.publish()
	return nil
}

func mainRoom(room int) string { return fmt.Sprintf("room%d", room) }

// publish lets messages flow in all rooms of the crowd, until silence is called.
func (r *deliveryRun) publish() {
	every := time.Duration(float64(len(r.pubs)) / r.cfg.rates[0] * float64(time.Second))
	ctx, cancel := context.WithCancel(context.Background())
	stop := make(chan struct{})
	var all sync.WaitGroup
	for _, p := range r.pubs {
		all.Go(func() { p.Run(ctx, every, stop) })
	}
	r.silence = func() {
		close(stop)
		// A message that is not acknowledged by then is given up.
		patience := time.AfterFunc(r.cfg.chaos.patience, cancel)
		all.Wait()
		patience.Stop()
		cancel()
		r.silence = nil
	}
}

// await waits until a condition holds, at most as long as the patience.
func (r *deliveryRun) await(ctx context.Context, what string, holds func() bool) error {
	ok, err := r.hopeFor(ctx, holds)
	if err == nil && !ok {
		err = fmt.Errorf("waited %v for %s in vain", r.cfg.chaos.patience, what)
	}
	return err
}

// hopeFor is await for what may not come about.
func (r *deliveryRun) hopeFor(ctx context.Context, holds func() bool) (bool, error) {
	for end := time.Now().Add(r.cfg.chaos.patience); !holds(); {
		if time.Now().After(end) {
			return false, nil
		}
		if err := errors.Join(pause(ctx, lookEvery), r.stack.died()); err != nil {
			return false, err
		}
	}
	return true, nil
}

// phase does one fault, waits until every client has newer messages, and lets some time go by in quiet.
func (r *deliveryRun) phase(ctx context.Context, number int, f deliveryFault) error {
	r.phases++
	r.fleet.Phase(number)
	began := time.Now()
	d := &deliveryHarm{r: r, number: number, node: number % r.cfg.nodes, result: delivery.Phase{Name: f.name, What: f.what, Told: f.told}}
	if err := f.do(d, ctx); err != nil {
		return err
	}
	if d.over.IsZero() {
		d.over = time.Now()
	}
	if err := r.heal(ctx, d); err != nil {
		return err
	}
	if d.mend != nil {
		if err := d.mend(ctx); err != nil {
			return err
		}
		d.over = time.Now()
	}
	if err := pause(ctx, max(time.Until(d.over.Add(r.cfg.delivery.quiet)), 0)); err != nil {
		return err
	}
	p := &d.result
	if r.meter != nil {
		p.Metrics = r.meter.take()
	}
	p.Seconds = time.Since(began).Seconds()
	returns := r.crowd.Returns(number)
	p.Returns, p.Examples = delivery.TallyOf(returns, d.harmed), delivery.Unexpected(returns, d.harmed)
	r.sys.Phases = append(r.sys.Phases, *p)
	found := r.check(nil)
	c := found.Phases[number]
	r.say("%s: well in %.1f s; %d returns, %d recovered; %d lost, %d twice, %d out of order; %d missed", f.name, p.WellIn,
		p.Returns.Returned, p.Returns.Recovered, c.Lost, c.Duplicated, c.OutOfOrder, c.Missed)
	return nil
}

// sayStraggler is how long clients may take before it is said who they are.
const sayStraggler = 5 * time.Second

// heal waits until every client has a message that was published after the fault and, if no session
// outlives it, until every client has been told.
func (r *deliveryRun) heal(ctx context.Context, d *deliveryHarm) error {
	numbers := map[int]uint64{}
	for room, p := range r.pubs {
		numbers[room] = p.Begun() + 1
	}
	said := time.Now()
	well, err := r.hopeFor(ctx, func() bool {
		if n := r.crowd.Behind(numbers); n > 0 && time.Since(said) > sayStraggler {
			said = time.Now()
			d.say("%d clients have nothing newer than the fault: %s", n, r.crowd.Straggler(numbers))
		}
		return !slices.ContainsFunc(r.pubs, func(p *delivery.Publisher) bool { return p.Acked() == 0 }) && r.crowd.Behind(numbers) == 0
	})
	if err != nil {
		return err
	}
	d.result.WellIn = -1
	if well {
		d.result.WellIn = time.Since(d.over).Seconds()
	}
	if d.harmed.IsZero() {
		return nil
	}
	told, err := r.hopeFor(ctx, func() bool { return r.crowd.Older(d.harmed) == 0 })
	if err == nil && !told {
		d.fail("%d clients were never told that their sessions are over", r.crowd.Older(d.harmed))
	}
	return err
}

// check compares everything received so far with what must have been.
func (r *deliveryRun) check(last map[int]uint64) *delivery.Findings {
	r.sys.Findings = delivery.Check(r.crowd.Histories(), last, r.told())
	return r.sys.Findings
}

// told says of the phases so far whether they end all sessions.
func (r *deliveryRun) told() []bool {
	told := make([]bool, max(r.phases, 1))
	for i := range min(len(told), len(r.faults)) {
		told[i] = deliveryFaults()[slices.Index(deliveryFaultNames(), r.faults[i])].told
	}
	return told
}

// settleFor is how long nothing must happen before the end, so that what comes twice can come.
const settleFor = 5 * time.Second

// finish lets everybody be there, ends the messages, and judges what was received.
func (r *deliveryRun) finish(ctx context.Context) error {
	if r.calm != nil {
		r.calm()
		r.calm = nil
	}
	r.say("waiting for everybody to be there, then for the last messages")
	if _, err := r.hopeFor(ctx, func() bool { return r.crowd.Absent() == 0 }); err != nil {
		return err
	}
	r.silence()
	last := map[int]uint64{}
	for room, p := range r.pubs {
		last[room] = p.Acked()
		if p.Acked() != p.Begun() {
			r.sys.Unsettled++
		}
		r.sys.Publishers.Add(p.TakeStats())
	}
	if _, err := r.hopeFor(ctx, func() bool { return r.crowd.Absent() == 0 && r.crowd.Lacking(last) == 0 }); err != nil {
		return err
	}
	if err := pause(ctx, settleFor); err != nil {
		return err
	}
	r.sys.Absent = r.crowd.Absent()
	r.sys.Events = r.crowd.TakeEvents()
	f := r.check(last)
	r.say("%d messages received in %d sessions; %d lost, %d twice, %d out of order", f.Total.Received, f.Sessions,
		f.Total.Lost, f.Total.Duplicated, f.Total.OutOfOrder)
	return nil
}

// close ends everything the run has started.
func (r *deliveryRun) close() {
	if r.calm != nil {
		r.calm()
	}
	if r.stack != nil && r.meter != nil {
		r.meter.end()
	}
	if r.silence != nil {
		r.cfg.chaos.patience = 0
		r.silence()
	}
	for _, p := range r.pubs {
		p.Close()
	}
	if r.crowd != nil {
		r.crowd.Close()
	}
	if r.stack != nil {
		r.stack.close()
	}
}

// deliveryFaultNames are the values of -faults in chaos-delivery.
func deliveryFaultNames() (names []string) {
	for _, f := range deliveryFaults() {
		names = append(names, f.name)
	}
	return names
}

// checkFaults reports a name that is not among those that there are.
func checkFaults(flag, given string, names []string) error {
	for _, name := range listFlag(given) {
		if !slices.Contains(names, name) {
			return fmt.Errorf("%s: %q is none of %s", flag, name, strings.Join(names, ", "))
		}
	}
	if given == "" {
		return fmt.Errorf("%s: there are none", flag)
	}
	return nil
}
