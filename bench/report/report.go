// Package report holds the figures of a benchmark and shows them: as text, as JSON and as one HTML
// page without external parts. It also knows the project's targets and judges the figures by them.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Report is everything one run of the benchmark found out.
type Report struct {
	Scenario string    `json:"scenario"` // steady, idle, loss, recovery, storm, churn, journal, coalescing, heartbeat, moves, slow-readers, saturation, tiny-rooms or floor
	Started  time.Time `json:"started"`
	Machine  Machine   `json:"machine"`
	Load     Load      `json:"load"`
	Systems  []System  `json:"systems"`
	Floor    *Floor    `json:"floor,omitempty"` // floor only
	Verdicts []Verdict `json:"verdicts"`
}

// Machine is where it ran.
type Machine struct {
	CPUs            int     `json:"cpus"`
	Model           string  `json:"model"`
	Kernel          string  `json:"kernel"`
	MemoryGB        float64 `json:"memory_gb"`
	Go              string  `json:"go"`
	LoopbackWriteUS float64 `json:"loopback_write_us"` // CPU time of one write(2) to a loopback socket
}

// Load is what the clients did.
type Load struct {
	Conns         int     `json:"conns"`
	Rooms         int     `json:"rooms"`
	SendersRoom   int     `json:"senders_per_room"`
	PayloadBytes  int     `json:"payload_bytes"`
	WarmupSeconds float64 `json:"warmup_seconds"`
	Seconds       float64 `json:"seconds"` // measured time of each step
	Processes     int     `json:"client_processes"`
	Headers       string  `json:"headers"` // browser or plain
}

// System is one server system under the load. CPU and memory figures are nil where the servers are
// not this machine's processes.
type System struct {
	Name        string         `json:"name"`            // edge, node or external
	Title       string         `json:"title,omitempty"` // where the name does not tell which run it is
	Nodes       int            `json:"nodes"`
	Connect     Connect        `json:"connect"`
	Join        *Connect       `json:"join,omitempty"`
	Memory      *Memory        `json:"memory,omitempty"`
	Steps       []Step         `json:"steps,omitempty"`
	Presence    []Presence     `json:"presence,omitempty"`
	Observer    *Observer      `json:"observer,omitempty"`
	Churn       *Churn         `json:"churn,omitempty"`
	Loss        *Loss          `json:"loss,omitempty"`
	Recovery    *Recovery      `json:"recovery,omitempty"`
	Storms      *Storms        `json:"storms,omitempty"`
	Comings     *Comings       `json:"comings,omitempty"`
	Traffic     *Traffic       `json:"traffic,omitempty"`
	Moves       *Moves         `json:"moves,omitempty"`
	Idle        *Idle          `json:"idle,omitempty"`
	Saturation  *Saturation    `json:"saturation,omitempty"`
	SlowReaders *SlowReaders   `json:"slow_readers,omitempty"`
	Left        *Left          `json:"left,omitempty"`
	Samples     []Sample       `json:"samples,omitempty"`
	Marks       []Mark         `json:"marks,omitempty"`
	Failures    map[string]int `json:"failures,omitempty"`
}

// Connect is a phase in which every connection did one thing: connect, or join its room.
type Connect struct {
	Done      int     `json:"done"`
	Failed    int     `json:"failed"`
	Seconds   float64 `json:"seconds"` // first request to last answer
	PerSecond float64 `json:"per_second"`
	P50MS     float64 `json:"p50_ms,omitempty"`
	P99MS     float64 `json:"p99_ms,omitempty"`
	CPU       *CPU    `json:"cpu,omitempty"`
}

// CPU is processor time by who used it, in seconds.
type CPU struct {
	Nodes  float64 `json:"nodes_seconds"`
	Redis  float64 `json:"redis_seconds"`
	Client float64 `json:"client_seconds"`
}

// Server returns the seconds of all nodes and Redis.
func (c *CPU) Server() float64 { return c.Nodes + c.Redis }

// Sub returns what was used since o.
func (c CPU) Sub(o CPU) CPU {
	return CPU{c.Nodes - o.Nodes, c.Redis - o.Redis, c.Client - o.Client}
}

// Memory is resident memory in bytes.
type Memory struct {
	NodesBefore   int64 `json:"nodes_before_bytes"` // ready, without connections
	Nodes         int64 `json:"nodes_bytes"`        // with all connections
	RedisBefore   int64 `json:"redis_before_bytes"`
	Redis         int64 `json:"redis_bytes"`
	Conns         int   `json:"conns"`
	Heartbeats    int   `json:"heartbeats,omitempty"` // rounds before Nodes was read
	MaxGoroutines int   `json:"max_goroutines,omitempty"`
}

// PerConn returns what a connection added to the nodes, in bytes.
func (m *Memory) PerConn() float64 {
	return float64(m.Nodes-m.NodesBefore) / float64(max(m.Conns, 1))
}

// Idle is what connections cost that do nothing but answer heartbeats.
type Idle struct {
	Conns   int     `json:"conns"`
	Seconds float64 `json:"seconds"` // measured time
	CPU     CPU     `json:"cpu"`
}

// PerConn returns the server's CPU time for one connection in microseconds per second.
func (i *Idle) PerConn() float64 {
	return i.CPU.Server() / i.Seconds / float64(max(i.Conns, 1)) * 1e6
}

// Append adds what another run of the same system found, as if it had gone on there: its steps, presence
// and curves. Of what each run does once, connecting and memory, the first run's figures stay.
func (s *System) Append(o *System) {
	if s.Name == "" {
		*s = *o
		return
	}
	shift := 0.0
	if n := len(s.Samples); n > 0 {
		shift = s.Samples[n-1].T + 1
	}
	s.Steps = append(s.Steps, o.Steps...)
	s.Presence = append(s.Presence, o.Presence...)
	for _, sample := range o.Samples {
		sample.T += shift
		s.Samples = append(s.Samples, sample)
	}
	for _, mark := range o.Marks {
		mark.T += shift
		s.Marks = append(s.Marks, mark)
	}
	for reason, n := range o.Failures {
		s.Failures[reason] += n
	}
}

// Step is one rate of messages.
type Step struct {
	Rate        float64  `json:"messages_per_second"`
	Nominal     float64  `json:"nominal_deliveries_per_second"`
	Sent        uint64   `json:"sent"`
	Refused     uint64   `json:"refused"`
	Received    uint64   `json:"received"`  // warm-up included
	Delivered   uint64   `json:"delivered"` // within the measured time
	PerSecond   float64  `json:"deliveries_per_second"`
	Lost        int64    `json:"lost"`
	Duplicated  uint64   `json:"duplicated"`
	Reordered   uint64   `json:"out_of_order"`
	Misrouted   uint64   `json:"misrouted"`
	Disagreeing int      `json:"members_with_another_order"`
	Dropped     int      `json:"dropped_connections"`
	Latency     Latency  `json:"latency"`
	SendLag     Latency  `json:"client_send_lag"`
	ReadLag     Latency  `json:"client_read_lag"`
	Stall       Latency  `json:"machine_stall"`
	CPU         *CPU     `json:"cpu,omitempty"`
	Published   float64  `json:"published,omitempty"` // messages within the measured time, of which CPU is the price
	Seconds     []Second `json:"seconds"`
	Outcome     Outcome  `json:"outcome,omitempty"` // saturation only
}

// PerDelivery returns the server's CPU time per delivery in microseconds; ok is false if unknown.
func (s *Step) PerDelivery() (us float64, ok bool) {
	if s.CPU == nil || s.Delivered == 0 {
		return 0, false
	}
	return s.CPU.Server() / float64(s.Delivered) * 1e6, true
}

// Latency is a distribution of times in milliseconds.
type Latency struct {
	Count uint64  `json:"count"`
	Mean  float64 `json:"mean_ms"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	Max   float64 `json:"max_ms"`
	Curve []Point `json:"curve,omitempty"` // X: share of the values, Y: ms
	Bars  []Bar   `json:"bars,omitempty"`
}

// Point is a point of a curve.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// Bar is a bar of a histogram over milliseconds.
type Bar struct {
	Low   float64 `json:"low_ms"`
	High  float64 `json:"high_ms"`
	Share float64 `json:"share"`
}

// Second is one second of a step, warm-up included.
type Second struct {
	Deliveries uint64  `json:"deliveries"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	Max        float64 `json:"max_ms"`
}

// Presence is one comparison of the presence keys with the truth.
type Presence struct {
	When     string   `json:"when"`
	Keys     int      `json:"keys"`
	Wrong    int      `json:"wrong"`    // keys still wrong after more than a second
	RightMS  float64  `json:"right_ms"` // when all keys were right; the whole wait if they never were
	Examples []string `json:"examples,omitempty"`
}

// Left is how all connections ended.
type Left struct {
	Cut int `json:"cut"` // connections the server did not close in time
}

// Sample is a look at all processes. CPU is in cores since the sample before, memory in bytes.
type Sample struct {
	T        float64 `json:"t"` // seconds since the first sample
	Nodes    float64 `json:"nodes_cores"`
	Redis    float64 `json:"redis_cores"`
	Client   float64 `json:"client_cores"`
	NodesRSS int64   `json:"nodes_rss"`
	RedisRSS int64   `json:"redis_rss"`
}

// Mark names the beginning of a phase on the time axis of the samples.
type Mark struct {
	T    float64 `json:"t"`
	Name string  `json:"name"`
}

// system returns the system of that name, nil if it did not run.
func (r *Report) system(name string) *System {
	for i := range r.Systems {
		if r.Systems[i].Name == name {
			return &r.Systems[i]
		}
	}
	return nil
}

// Write judges the figures, and writes bench-<name>.json and bench-<name>.html to dir. It returns the
// two paths.
func (r *Report) Write(dir, name string) (jsonPath, htmlPath string, err error) {
	if r.Verdicts == nil {
		r.Verdicts = Judge(r)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", fmt.Errorf("report: %w", err)
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return "", "", fmt.Errorf("report: %w", err)
	}
	jsonPath = filepath.Join(dir, "bench-"+name+".json")
	htmlPath = filepath.Join(dir, "bench-"+name+".html")
	if err := os.WriteFile(jsonPath, append(text, '\n'), 0o644); err != nil {
		return "", "", fmt.Errorf("report: %w", err)
	}
	if err := os.WriteFile(htmlPath, HTML(r), 0o644); err != nil {
		return "", "", fmt.Errorf("report: %w", err)
	}
	return jsonPath, htmlPath, nil
}
