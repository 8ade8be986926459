//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stellara/edge/bench/chaos"
)

// scenarioChaos harms nodes and Redis, and sees whether presence becomes right again.
const scenarioChaos = "chaos-presence"

// chaosFlags shape the scenario.
type chaosFlags struct {
	users    int
	faults   string
	before   time.Duration
	outage   time.Duration
	patience time.Duration
}

func (f *chaosFlags) register(fs *flag.FlagSet) {
	fs.IntVar(&f.users, "users", 3000, "chaos-presence: users; a tenth have three connections, two tenths have two")
	fs.StringVar(&f.faults, "faults", strings.Join(faultNames(), ","), "chaos-presence, chaos-delivery: faults, in this order")
	fs.DurationVar(&f.before, "before", 5*time.Second, "chaos-presence: churn before each fault")
	fs.DurationVar(&f.outage, "outage", 15*time.Second, "chaos-presence: how long a node is stopped or cut from Redis")
	fs.DurationVar(&f.patience, "patience", time.Minute, "chaos-presence, chaos-delivery: how long to wait until all is right")
}

func (f *chaosFlags) validate(c *config) error {
	if c.scenario != scenarioChaos {
		return nil
	}
	if err := checkFaults("-faults", f.faults, faultNames()); err != nil {
		return err
	}
	switch {
	case len(c.targets) > 0:
		return errors.New("-target: chaos-presence kills nodes, and so needs its own")
	case c.system != systemEdge:
		return fmt.Errorf("-system: %q has no presence to test, chaos-presence is for edge", c.system)
	case c.nodes < 2:
		return fmt.Errorf("-nodes: %d, need at least 2, or nobody is left when one dies", c.nodes)
	case c.rooms < chaosRooms:
		return fmt.Errorf("-rooms: %d, need at least the %d of every connection", c.rooms, chaosRooms)
	case f.users < 1 || c.watch.churn <= 0:
		return fmt.Errorf("-users %d, -churn %v: need more than none", f.users, c.watch.churn)
	case f.before < 0 || f.outage < 0 || f.patience <= 0:
		return fmt.Errorf("-before %v, -outage %v, -patience %v: times cannot be negative", f.before, f.outage, f.patience)
	}
	return nil
}

// chaosRooms is how many rooms every connection is in.
const chaosRooms = 3

// chaosRun is one run of the scenario. Its methods are for the main goroutine, which starts processes.
type chaosRun struct {
	cfg    config
	out    io.Writer
	began  time.Time
	stack  *chaosStack
	crowd  *chaos.Crowd
	reader *chaos.Reader
	stop   func() // churn; nil if there is none
}

// chaosPresence runs all faults, prints the tables and writes the file. The error says what failed.
func chaosPresence(ctx context.Context, cfg config, out io.Writer) error {
	r := &chaosRun{cfg: cfg, out: out, began: time.Now()}
	defer r.close()
	report := &chaos.Run{
		Scenario: cfg.scenario, Started: r.began, Nodes: cfg.nodes, Users: cfg.chaos.users, Rooms: cfg.rooms, Churn: cfg.watch.churn,
	}
	var failed []string
	var broken error // what ended the run early
	for i, name := range listFlag(cfg.chaos.faults) {
		result, err := r.one(ctx, i, chaosFaults()[slices.Index(faultNames(), name)])
		if err != nil {
			broken = fmt.Errorf("%s: %w", name, err)
			break
		}
		report.Devices = r.crowd.Devices()
		report.Faults = append(report.Faults, *result)
		if len(result.Failures) > 0 {
			failed = append(failed, name)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	report.Pass = broken == nil && len(failed) == 0
	if broken != nil {
		report.Broken = broken.Error()
	}
	if len(report.Faults) == 0 {
		return broken
	}
	fmt.Fprint(out, chaos.Text(report))
	path, err := writeJSON(cfg.out, "bench-"+cfg.scenario+".json", report)
	if err == nil {
		fmt.Fprintf(out, "\n%s\n", path)
	}
	if len(failed) > 0 {
		err = errors.Join(err, fmt.Errorf("%s: failed: %s", cfg.scenario, strings.Join(failed, ", ")))
	}
	return errors.Join(err, broken)
}

// writeJSON writes a file of a report.
func writeJSON(dir, name string, v any) (path string, err error) {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path = filepath.Join(dir, name)
	return path, os.WriteFile(path, append(text, '\n'), 0o644)
}

// say prints a line of progress.
func (r *chaosRun) say(format string, args ...any) {
	fmt.Fprintf(r.out, "%6.1f s  "+format+"\n", append([]any{time.Since(r.began).Seconds()}, args...)...)
}

// one does one fault: churn, harm, healing, and what observers saw of it.
func (r *chaosRun) one(ctx context.Context, number int, f fault) (*chaos.Result, error) {
	if err := r.baseline(ctx); err != nil {
		return nil, err
	}
	h := &harm{r: r, node: number % r.cfg.nodes}
	r.churn()
	defer r.calm()
	defer r.crowd.Thaw()
	before := r.newWatch(f.name + " to come")
	if err := before.during(ctx, r.cfg.chaos.before); err != nil {
		return nil, err
	}
	r.say("%s to come: under churn alone at worst %d ghosts, %d missing", f.name, before.worst.Ghosts(), before.worst.Missing())
	h.watch = r.newWatch(f.name)
	if err := f.do(h, ctx); err != nil {
		return nil, err
	}
	r.calm()
	after, right, err := h.watch.untilRight(ctx, f.look)
	if err != nil {
		return nil, err
	}
	result := &chaos.Result{
		Fault: f.name, What: f.what, From: f.from, LimitSeconds: f.limit.Seconds(), Right: right, RightSeconds: after.Seconds(),
		Waited: time.Since(h.watch.since).Seconds(), After: h.watch.last, Stranded: h.watch.pending, Worst: h.watch.worst,
		Looks: h.watch.looks, Blind: h.watch.blind,
	}
	if err := h.observers(ctx, result); err != nil {
		return nil, err
	}
	result.Events = r.crowd.TakeEvents()
	result.Judge()
	r.conclude(result)
	if h.mend != nil {
		return result, h.mend(ctx)
	}
	return result, nil
}

// observers judges what observers saw, as soon as nothing is missing from it.
func (h *harm) observers(ctx context.Context, result *chaos.Result) (err error) {
	result.Lists, err = h.watch.untilTold(ctx, func() bool {
		if h.witness == nil || !result.Right {
			return true
		}
		return h.witness.Judge(h.watch.since.Add(inTime)).Missed == 0
	})
	if h.witness != nil {
		leaves := h.witness.Judge(h.watch.since.Add(inTime))
		result.Leaves = &leaves
	}
	return err
}

// conclude says what came of a fault.
func (r *chaosRun) conclude(result *chaos.Result) {
	for _, failure := range result.Failures {
		r.say("%s: FAIL: %s", result.Fault, failure)
	}
	if len(result.Failures) == 0 {
		r.say("%s: pass, right after %.1f s", result.Fault, result.RightSeconds)
	}
}

// baseline makes sure that everything is right before a fault. What an earlier fault has broken for
// good, keys or lists of observers, would be counted against the next one, so then all begins anew.
func (r *chaosRun) baseline(ctx context.Context) error {
	for fresh := r.stack == nil; ; fresh = true {
		if r.stack == nil {
			if err := r.begin(ctx); err != nil {
				return err
			}
		}
		w := r.newWatch("before")
		_, right, err := w.untilRight(ctx, 0)
		if err != nil {
			return err
		}
		lists, err := w.untilTold(ctx, func() bool { return true })
		if err != nil {
			return err
		}
		if right && lists.Wrong == 0 {
			r.crowd.TakeEvents()
			return nil
		}
		if fresh {
			return fmt.Errorf("presence does not become right even without a fault: %d ghosts, %d missing, %d operations under way, %v; %d lists wrong, %v",
				w.last.Ghosts(), w.last.Missing(), w.pending, w.last.Examples, lists.Wrong, lists.Examples)
		}
		r.say("the keys or %d lists are still wrong, starting anew", lists.Wrong)
		r.close()
	}
}

// begin starts Redis and the nodes, and connects everybody.
func (r *chaosRun) begin(ctx context.Context) (err error) {
	r.say("starting %d nodes", r.cfg.nodes)
	if r.stack, err = startChaosStack(ctx, r.cfg, systemEdge); err != nil {
		return err
	}
	plan := chaos.Plan{Users: r.cfg.chaos.users, Rooms: r.cfg.rooms, Each: chaosRooms}
	for _, n := range r.stack.nodes {
		plan.Targets = append(plan.Targets, n.listen)
	}
	r.crowd = chaos.NewCrowd(plan)
	if err := r.read(); err != nil {
		return err
	}
	if err := enoughFiles(r.crowd.Devices(), r.cfg.nodes); err != nil {
		return err
	}
	r.say("connecting %d sockets", r.crowd.Devices())
	r.crowd.Connect()
	return nil
}

// enoughFiles compares the open-file limit with the connections, all of which are this process's. When
// a node is gone the others have them.
func enoughFiles(conns, nodes int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("reading the open-file limit: %w", err)
	}
	if need := max(conns+spareClient, conns/(nodes-1)+spareServer); uint64(need) > limit.Max {
		return fmt.Errorf("the open-file limit is %d, but %d connections need %d: raise it (ulimit -Hn %d) or use fewer -users",
			limit.Max, conns, need, need)
	}
	return nil
}

// read looks at the keys in the Redis that the nodes use now.
func (r *chaosRun) read() (err error) {
	if r.reader != nil {
		r.reader.Close()
	}
	r.reader, err = chaos.NewReader(r.stack.redisAddr, r.crowd.Roster)
	return err
}

// churn starts churn; calm ends it.
func (r *chaosRun) churn() { r.stop = r.crowd.Churn(r.cfg.watch.churn) }

func (r *chaosRun) calm() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

// close ends everything the run has started.
func (r *chaosRun) close() {
	if r.crowd != nil {
		r.calm()
		r.crowd.Close()
	}
	if r.reader != nil {
		r.reader.Close()
	}
	if r.stack != nil {
		r.stack.close()
	}
	r.crowd, r.reader, r.stack = nil, nil, nil
}
