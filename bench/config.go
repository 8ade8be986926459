//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// Systems of the flag -system, and the name of one that runs elsewhere.
const (
	systemEdge     = "edge"
	systemNode     = "node"
	systemBoth     = "both"
	systemExternal = "external"
)

// Scenarios.
const (
	scenarioSteady    = "steady"
	scenarioIdle      = "idle"
	scenarioLoss      = "loss"
	scenarioHeartbeat = "heartbeat"
	scenarioTiny      = "tiny-rooms" // steady, with many rooms of two
)

// Members of each room where the number of rooms is not given.
const (
	idleMembers = 100
	tinyMembers = 2
)

// scenarios are the scenarios with the flags whose defaults are other ones there.
var scenarios = map[string]map[string]string{
	scenarioSteady:     {},
	scenarioIdle:       {"conns": "15000", "nodes": "1"},
	scenarioLoss:       {"conns": "50000", "nodes": "6", "rooms": "1000", "duration": "20s"},
	scenarioHeartbeat:  {"nodes": "1", "warmup": "20s"},
	scenarioChaos:      {"rooms": "60", "churn": "40"},
	scenarioRecovery:   {"conns": "500", "duration": "15s"},
	scenarioStorm:      {"conns": "500", "duration": "10s"},
	scenarioChurn:      {"conns": "1000"},
	scenarioJournal:    {"rates": "100,400"},
	scenarioCoalescing: {"rates": "300,700,1500,3000", "warmup": "4s", "duration": "15s", "churn": "0", "observer": "false", "procs": "2"},
	scenarioMoves:      {"conns": "4000", "nodes": "2", "rooms": "0"},
	scenarioDelivery:   {"conns": "1000", "rooms": "20", "rate": "200", "faults": faultsOnEdge},
	scenarioDrain:      {"conns": "2000", "rooms": "20", "quiet": "3s"},
	scenarioHostile:    {"conns": "500", "nodes": "1", "rooms": "10", "rate": "100", "duration": "1m"},
	scenarioCompare:    {},
	scenarioFloor:      {"rooms": "0"},
	scenarioTiny:       {"rates": "1000,2500", "warmup": "3s", "duration": "20s", "churn": "0", "observer": "false"},
	scenarioSaturation: {"warmup": "2s", "duration": "5s", "settle": "6s", "procs": "2", "churn": "0", "observer": "false"},

	// The outbox is to be full before a pong is missed.
	scenarioSlowReaders: {"payload": "32768", "duration": "15s", "warmup": "5s", "env": "PING_TIMEOUT=90s"},
}

// config is what the flags say.
type config struct {
	scenario string
	system   string

	conns      int
	nodes      int
	rooms      int
	senders    int
	payload    int
	rates      []float64
	duration   time.Duration
	warmup     time.Duration
	settle     time.Duration
	heartbeats int
	browser    bool
	dialing    int
	processes  int

	targets  []string // external nodes
	redisURL string   // external Redis, for the presence keys
	edge     string   // path of the edge binary; built when empty
	env      []string // further environment of the servers
	out      string

	watch      watchFlags
	loss       lossFlags
	heartbeat  heartbeatFlags
	chaos      chaosFlags
	delivery   deliveryFlags
	drain      drainFlags
	recovery   recoveryFlags
	storm      stormFlags
	comings    comingsFlags
	slow       slowReadersFlags
	moves      movesConfig
	hostile    hostileFlags
	saturation saturationFlags
	compare    compareFlags
}

// listFlag is a flag with commas.
func listFlag(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// parseFlags reads the command line. What is not given depends on the scenario.
func parseFlags(args []string, stderr io.Writer) (config, error) {
	var c config
	var rate float64
	var rates, targets, env, headers string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&c.scenario, "scenario", scenarioSteady, "steady (messages), idle (memory), tiny-rooms (messages in rooms of two), saturation (the highest rate), "+
		"compare (these four on both systems, with -trials of each), floor (the price of bare writes), "+
		"loss (nodes are killed), recovery (a node is killed, its clients come back), storm (all clients of a node are cut and come back within a second), churn (connections that come and go all the time), journal (messages with and without recovery), coalescing (messages with several settings of WRITE_DELAY), moves (conns that go to another node), slow-readers (some stop reading), "+
		"hostile (clients that do what clients must not do, beside others), heartbeat (traffic of the leases), chaos-presence or chaos-delivery (faults, one after the other), chaos-drain (nodes restarted in turn behind HAProxy)")
	fs.StringVar(&c.system, "system", systemEdge, "edge, node (the Node.js system in bench/node) or both")
	fs.IntVar(&c.conns, "conns", 5000, "connections; idle: 15000, loss: 50000, recovery, storm, hostile: 500, churn: 1000, chaos-delivery: 1000, chaos-drain: 2000, moves: 4000")
	fs.IntVar(&c.nodes, "nodes", 3, "server processes; idle, hostile and heartbeat: 1, loss: 6, moves: 2")
	fs.IntVar(&c.rooms, "rooms", 50, "shared rooms, dealt evenly; moves: 0, which joins none; idle: of 100 members each, tiny-rooms: of 2, loss: 1000, chaos-presence: 60, chaos-delivery, chaos-drain: 20")
	fs.IntVar(&c.senders, "senders", 4, "sending members of each room")
	fs.IntVar(&c.payload, "payload", 128, "bytes of a message; slow-readers: 32768")
	fs.Float64Var(&rate, "rate", 100, "messages per second, all rooms together; chaos-delivery: 200")
	fs.StringVar(&rates, "rates", "", "several rates, one after the other: 100,400,700; journal: 100,400; coalescing: 300,700,1500,3000; tiny-rooms: 1000,2500")
	fs.DurationVar(&c.duration, "duration", time.Minute, "measured time of each rate; loss, recovery: before the kill, 20s and 15s; storm: before the first, 10s; heartbeat: counted time; slow-readers: before they stop reading, 15s; idle: time in which CPU is measured, 0 for none; tiny-rooms: 20s, saturation: 5s")
	fs.DurationVar(&c.warmup, "warmup", 10*time.Second, "time before it, checked but not measured; heartbeat: 20s, slow-readers: 5s, tiny-rooms: 3s, saturation: 2s")
	fs.DurationVar(&c.settle, "settle", 10*time.Second, "how long to wait for deliveries after a rate's last message; saturation: 6s")
	fs.IntVar(&c.heartbeats, "heartbeats", 2, "idle, moves: heartbeats of every connection before memory is read")
	fs.StringVar(&headers, "headers", "browser", "size of the opening request: browser or plain")
	fs.IntVar(&c.dialing, "dialing", 256, "handshakes, and joins, under way at once")
	fs.IntVar(&c.processes, "procs", 0, "client processes; 0: as many as the open-file limit needs; saturation: 2")
	fs.StringVar(&targets, "target", "", "HOST:PORT,... of servers that run already, with -system ignored")
	fs.StringVar(&c.redisURL, "redis", "", "redis:// of the servers at -target, to check the presence keys")
	fs.StringVar(&c.edge, "edge", "", "an edge binary; built from ./cmd/edge if not given")
	fs.StringVar(&env, "env", "", "NAME=VALUE,... for the servers; slow-readers: PING_TIMEOUT=90s")
	fs.StringVar(&c.out, "out", "out", "directory of the report")
	c.watch.register(fs)
	c.loss.register(fs)
	c.heartbeat.register(fs)
	c.chaos.register(fs)
	c.delivery.register(fs)
	c.drain.register(fs)
	c.recovery.register(fs)
	c.slow.register(fs)
	c.saturation.register(fs)
	c.compare.register(fs)
	c.storm.register(fs)
	c.comings.register(fs)
	c.hostile.register(fs)
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	if fs.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range scenarios[c.scenario] {
		if !given[name] {
			if err := fs.Set(name, value); err != nil {
				return c, fmt.Errorf("-%s %s, the default of %s: %w", name, value, c.scenario, err)
			}
		}
	}
	if err := errors.Join(c.deal(given), c.setRates(rate, rates)); err != nil {
		return c, err
	}
	c.browser = headers == "browser"
	if !c.browser && headers != "plain" {
		return c, fmt.Errorf("-headers: %q is neither browser nor plain", headers)
	}
	c.env = listFlag(env)
	return c, errors.Join(c.setTargets(listFlag(targets)), c.validate())
}

// deal sets what follows from other flags where it is not given.
func (c *config) deal(given map[string]bool) error {
	if !given["rooms"] {
		switch c.scenario {
		case scenarioIdle:
			c.rooms = (c.conns + idleMembers - 1) / idleMembers
		case scenarioTiny:
			c.rooms = (c.conns + tinyMembers - 1) / tinyMembers
		}
	}
	if c.scenario == scenarioCompare {
		return c.compare.deal(given)
	}
	return nil
}

// setRates takes the list of rates or, without one, the single rate.
func (c *config) setRates(rate float64, list string) error {
	c.rates = []float64{rate}
	if list == "" {
		return nil
	}
	c.rates = nil
	for _, s := range strings.Split(list, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
		if err != nil {
			return fmt.Errorf("-rates: %q is not a number", s)
		}
		c.rates = append(c.rates, v)
	}
	return nil
}

// setTargets resolves the addresses of external servers.
func (c *config) setTargets(targets []string) error {
	for _, t := range targets {
		addr, err := net.ResolveTCPAddr("tcp", t)
		if err != nil {
			return fmt.Errorf("-target: %w", err)
		}
		ap := addr.AddrPort()
		c.targets = append(c.targets, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String())
	}
	if len(c.targets) > 0 {
		c.nodes = len(c.targets)
	}
	return nil
}

func (c *config) validate() error {
	switch {
	case scenarios[c.scenario] == nil:
		return fmt.Errorf("-scenario: %q is none of %s", c.scenario, strings.Join(slices.Sorted(maps.Keys(scenarios)), ", "))
	case c.system != systemEdge && c.system != systemNode && c.system != systemBoth:
		return fmt.Errorf("-system: %q is none of edge, node, both", c.system)
	case c.nodes < 1:
		return fmt.Errorf("-nodes: %d, need at least 1", c.nodes)
	case (c.scenario == scenarioSteady || c.scenario == scenarioTiny) && c.rooms < 1:
		return errors.New("-rooms: messages need at least 1 room")
	case c.processes < 0 || c.heartbeats < 0:
		return errors.New("-procs and -heartbeats cannot be negative")
	case c.scenario == scenarioIdle && c.duration < 0:
		return fmt.Errorf("-duration %v: cannot be negative", c.duration)
	case c.scenario != scenarioIdle && (c.duration < time.Second || c.warmup < 0):
		return fmt.Errorf("-duration %v, -warmup %v: need at least 1s and 0", c.duration, c.warmup)
	}
	for _, r := range c.rates {
		if r <= 0 {
			return fmt.Errorf("-rate: %v messages per second", r)
		}
	}
	if err := errors.Join(c.watch.validate(), c.loss.validate(c), c.heartbeat.validate(c), c.chaos.validate(c), c.delivery.validate(c), c.drain.validate(c), c.recovery.validate(c), c.storm.validate(c), c.comings.validate(c), c.moves.validate(c), c.hostile.validate(c), c.slow.validate(c), c.saturation.validate(c), c.compare.validate(c)); err != nil {
		return err
	}
	if c.scenario == scenarioHeartbeat {
		*c = c.heartbeat.sized(*c, c.heartbeat.sizes[1]) // the larger one is what the machine must have room for
	}
	if c.rooms > 0 {
		c.senders = min(c.senders, c.conns/max(c.rooms, 1))
	}
	plan := c.plan([]string{"127.0.0.1:1"})
	plan.First, plan.Last = 0, plan.Conns
	return plan.Validate()
}

// Open files that a process needs besides its connections. The edge leaves 1,000 of its limit free.
const (
	spareClient = 100
	spareServer = 1000
)

// checkFiles compares the open-file limit with the connections, and sets the number of client
// processes if it was left open.
func (c *config) checkFiles() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("reading the open-file limit: %w", err)
	}
	have := int(min(limit.Max, 1<<30))
	nodes, spare := c.nodes, spareClient
	switch c.scenario {
	case scenarioLoss:
		nodes = c.loss.victims // the others hold few
	case scenarioMoves:
		nodes = 1
		spare += c.dialing // a client that upgrades has two
	case scenarioFloor, scenarioCompare: // which measures the floor, too
		return floorFiles(c.conns, have)
	}
	if need := (c.conns+nodes-1)/nodes + spareServer; need > have && len(c.targets) == 0 {
		return fmt.Errorf("the open-file limit is %d, but each of %d nodes needs %d for its connections: "+
			"raise it (ulimit -Hn %d) or use more -nodes", have, nodes, need, need)
	}
	if c.processes == 0 {
		c.processes = (c.conns + have - spare - 1) / (have - spare)
	}
	if need := (c.conns+c.processes-1)/c.processes + spare; need > have {
		return fmt.Errorf("the open-file limit is %d, but each of %d client processes needs %d: "+
			"raise it (ulimit -Hn %d) or use more -procs", have, c.processes, need, need)
	}
	return nil
}

// plan is the loader's plan; on somebody else's servers, names get a prefix of their own.
func (c *config) plan(targets []string) load.Plan {
	p := load.Plan{
		Targets: targets, Conns: c.conns, Rooms: c.rooms, Senders: c.senders, Payload: c.payload,
		Browser: c.browser, Dialing: max(c.dialing/max(c.processes, 1), 1),
	}
	switch c.scenario {
	case scenarioLoss:
		c.loss.shape(&p)
	case scenarioRecovery:
		c.recovery.shape(&p)
	case scenarioSlowReaders:
		c.slow.shape(&p)
	case scenarioMoves:
		c.moves.shape(&p)
	}
	if len(c.targets) > 0 {
		p.Prefix = fmt.Sprintf("bench%06x-", rand.Uint32N(1<<24))
	}
	return p
}

// name is the middle of the report's file names.
func (c *config) name() string {
	system := c.system
	if len(c.targets) > 0 {
		system = systemExternal
	}
	return c.scenario + "-" + system
}

func (c *config) load() report.Load {
	headers := "plain"
	if c.browser {
		headers = "browser"
	}
	return report.Load{
		Conns: c.conns, Rooms: c.rooms, SendersRoom: c.senders, PayloadBytes: c.payload,
		WarmupSeconds: c.warmup.Seconds(), Seconds: c.duration.Seconds(), Processes: c.processes, Headers: headers,
	}
}
