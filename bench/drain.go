//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/stellara/edge/bench/delivery"
)

// drainRun is a rolling restart under load: the clients and messages of a deliveryRun, all
// of them behind HAProxy. Its methods are for the main goroutine, which starts processes.
type drainRun struct {
	deliveryRun
	balancer *haproxy
	result   *delivery.DrainRun
}

// chaosDrain restarts all nodes, one after the other, prints what was found and writes the file.
func chaosDrain(ctx context.Context, cfg config, out io.Writer) error {
	write, err := loopbackWrite()
	if err != nil {
		return err
	}
	cfg.env = append(cfg.drain.env(), cfg.env...)
	r := &drainRun{
		deliveryRun: deliveryRun{cfg: cfg, out: out, began: time.Now(), sys: &delivery.System{Name: systemEdge}},
		result: &delivery.DrainRun{
			Scenario: cfg.scenario, Started: time.Now(), Machine: machine(write), Nodes: cfg.nodes, Clients: cfg.conns, Rooms: cfg.rooms, Rate: cfg.rates[0],
			DelaySeconds: cfg.drain.delay.Seconds(), WindowSeconds: cfg.drain.window.Seconds(), GraceSeconds: drainGrace.Seconds(), MaxConns: cfg.drain.maxConns,
		},
	}
	errRun := r.lead(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errRun != nil {
		r.sys.Broken = errRun.Error()
	}
	r.result.System = *r.sys
	r.result.Judge()
	fmt.Fprint(out, r.result.Text())
	path, err := writeJSON(cfg.out, "bench-"+cfg.scenario+".json", r.result)
	if err == nil {
		fmt.Fprintf(out, "\n%s\n", path)
	}
	if !r.result.Passed() {
		errRun = errors.Join(errRun, fmt.Errorf("%s failed", cfg.scenario))
	}
	return errors.Join(errRun, err)
}

// lead goes through the whole run.
func (r *drainRun) lead(ctx context.Context) (err error) {
	defer func() {
		r.close()
		r.balancer.stop()
	}()
	r.say("starting %d nodes and HAProxy", r.cfg.nodes)
	if r.stack, err = startChaosStack(ctx, r.cfg, r.sys.Name); err != nil {
		return err
	}
	var nodes []string
	for _, n := range r.stack.nodes {
		nodes = append(nodes, n.listen)
	}
	if r.balancer, err = startHAProxy(ctx, r.stack.dir, nodes, 2*(r.cfg.conns+r.cfg.rooms)); err != nil {
		return err
	}
	if err := r.connect(ctx, []string{r.balancer.listen}); err != nil {
		return err
	}
	if err := pause(ctx, r.cfg.delivery.quiet); err != nil {
		return err
	}
	for i := range r.stack.nodes {
		if err := r.restart(ctx, i); err != nil {
			return err
		}
	}
	if err := r.finish(ctx); err != nil {
		return err
	}
	for i := range r.sys.Phases {
		r.sys.Phases[i].Counts = r.sys.Findings.Phases[i]
	}
	counts, err := r.balancer.counts(ctx)
	r.result.ServerErrors, r.result.BalancerErrs = counts.serverErrors, counts.failures
	return err
}

// restart has a node end and begin again, as an operator does: the next one has its turn when this one is ready, and in
// time HAProxy has seen it.
func (r *drainRun) restart(ctx context.Context, number int) error {
	r.phases++
	r.fleet.Phase(number)
	n := r.stack.nodes[number]
	s := delivery.Restart{Node: n.name}
	watch := watchConns(r.stack.nodes)
	s.Conns = watch.of(n)
	r.say("%s: SIGTERM, with %d conns", n.name, s.Conns)
	began := time.Now()
	n.terminate(r.cfg.drain.delay + r.cfg.drain.window + 2*drainGrace)
	s.Exit, s.Code = time.Since(began), n.process.cmd.ProcessState.ExitCode()
	r.say("%s: ended after %.1f s with code %d", n.name, s.Exit.Seconds(), s.Code)
	err := r.stack.launch(n)
	if err == nil {
		err = n.awaitReady(ctx)
	}
	numbers := map[int]uint64{}
	for room, p := range r.pubs {
		numbers[room] = p.Begun() + 1
	}
	if err == nil {
		err = r.await(ctx, "everybody to be back and to have newer messages", func() bool { return r.crowd.Absent() == 0 && r.crowd.Behind(numbers) == 0 })
	}
	if err == nil {
		err = pause(ctx, r.cfg.delivery.quiet)
	}
	s.Most, s.Full = watch.end()
	returns := r.crowd.Returns(number)
	for _, back := range returns {
		s.Returned = append(s.Returned, back.At.Sub(began))
		s.Closed = append(s.Closed, back.At.Add(-back.Away).Sub(began))
	}
	slices.Sort(s.Closed)
	r.result.Restarts = append(r.result.Restarts, s)
	r.sys.Phases = append(r.sys.Phases, delivery.Phase{Name: n.name, What: "restarted", Returns: delivery.TallyOf(returns, time.Time{}), Metrics: r.meter.take()})
	t := &r.sys.Phases[len(r.sys.Phases)-1].Returns
	r.say("%s: %d returns, %d recovered; at most %d conns on a node", n.name, t.Returned, t.Recovered, s.Most)
	return err
}

// connWatch looks at the nodes' conns again and again. Safe for concurrent use.
type connWatch struct {
	nodes []*chaosNode
	stop  chan struct{}
	wg    sync.WaitGroup

	mu   sync.Mutex
	most int
	full map[string]int // refusals for MAX_CONNS, by node and life
}

func watchConns(nodes []*chaosNode) *connWatch {
	w := &connWatch{nodes: nodes, stop: make(chan struct{}), full: map[string]int{}}
	w.wg.Go(func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			for _, n := range nodes {
				w.of(n)
			}
			select {
			case <-w.stop:
				return
			case <-tick.C:
			}
		}
	})
	return w
}

// of is how many conns a node has; 0 if it does not answer.
func (w *connWatch) of(n *chaosNode) (conns int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	text, err := scrape(ctx, n.admin)
	if err != nil {
		return 0
	}
	for _, v := range labelled(text, "edge_conns", "transport") {
		conns += int(v)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.most = max(w.most, conns)
	w.full[n.admin+metricValue(text, "process_start_time_seconds")] = int(labelled(text, "edge_refusals_total", "reason")["max_conns"])
	return conns
}

// end stops looking, and says how many conns a node had at most, and how many it refused for want of room since it started.
func (w *connWatch) end() (most, full int) {
	close(w.stop)
	w.wg.Wait()
	for _, n := range w.full {
		full += n
	}
	return w.most, full
}
