package report

// scenarioSaturation is Report.Scenario of a search for the highest rate.
const scenarioSaturation = "saturation"

// Outcome is what came of a step of a search for the highest rate.
type Outcome string

// Outcomes. The first is the good one; the last two leave open whether the server would have held the rate.
const (
	Held           Outcome = "held"
	RefusedSome    Outcome = "refused" // messages, by their acknowledgements
	DroppedSome    Outcome = "conns dropped"
	LostSome       Outcome = "lost"
	Disordered     Outcome = "out of order"    // or doubled, or in the wrong room
	TooSlow        Outcome = "p99 too high"    // LimitP99MS
	FellBehind     Outcome = "fell behind"     // KeepsUp
	ClientLate     Outcome = "clients late"    // in sending or reading, by their own fault: LimitLagMS
	MachineStalled Outcome = "machine stalled" // LimitStallMS
)

// Doubtful reports whether a failure may not be the server's.
func (o Outcome) Doubtful() bool { return o == ClientLate || o == MachineStalled }

// What a rate must satisfy to count as held, besides that nothing is lost.
const (
	LimitP99MS   = 200.0          // latency of deliveries
	KeepsUp      = 0.95           // share of the deliveries due in the measured time that arrived within it
	LimitLagMS   = LimitP99MS / 4 // p99 by which clients may be late in sending or reading for a failure to be the server's
	LimitStallMS = LimitP99MS / 2 // longest stall of the machine, likewise
)

// Saturation is what the search for the highest rate found.
type Saturation struct {
	Best   int     `json:"best"`   // the step of the highest rate that was held, -1 if none was
	Bound  Outcome `json:"bound"`  // what ended the lowest rate above it
	Starts int     `json:"starts"` // how often servers were started: anew after they lost connections or messages
}

// judgeSaturation compares the highest rates that were held.
func judgeSaturation(r *Report) []Verdict {
	const gain, writes = "deliveries/s against Node, clients taken out", "CPU per delivery in write(2)s, saturated"
	edge, node := r.system("edge").best(), r.system("node").best()
	v := unknown(gain, "≥ 1.50 ×", "needs a rate that both systems held")
	if edge != nil && node != nil {
		mine, ok1 := edge.WithoutClient()
		theirs, ok2 := node.WithoutClient()
		if ok1 && ok2 {
			v = atLeast(gain, mine/theirs, minSaturationGain, "%.2f ×")
		}
	}
	w := unknown(writes, "≤ 2.00 ×", "no rate was held")
	if edge != nil && r.Machine.LoopbackWriteUS > 0 {
		if us, ok := edge.PerDelivery(); ok {
			w = atMost(writes, us/r.Machine.LoopbackWriteUS, maxWrites, "%.2f ×")
		}
	}
	return []Verdict{v, w, judgeHeld(r.system("edge")), judgePresence(r.system("edge"))}
}

// judgeHeld is judgeDelivery of a search: beyond the highest rate that was held, messages may be lost, as
// connections that read too slowly are closed, but none may come twice or out of order.
func judgeHeld(edge *System) Verdict {
	held := System{}
	for _, s := range edge.Steps {
		if s.Outcome != Held {
			s.Lost, s.Dropped, s.Disagreeing = 0, 0, 0
		}
		held.Steps = append(held.Steps, s)
	}
	return judgeDelivery(&held)
}

// best returns the step at saturation, nil if there is none.
func (s *System) best() *Step {
	if s == nil || s.Saturation == nil || s.Saturation.Best < 0 || s.Saturation.Best >= len(s.Steps) {
		return nil
	}
	return &s.Steps[s.Saturation.Best]
}

// heldRate is the deliveries per second of a rate that was held: not more than were sent, as some that
// arrived in the measured time may have been late from before it.
func (s *Step) heldRate() float64 { return min(s.PerSecond, s.Nominal) }

// WithoutClient returns the deliveries per second of the server if it had the processor time of the
// clients on the same machine, too: deliveries/s × (server CPU + client CPU) / server CPU. Time that
// nobody used is not added. ok is false if unknown.
func (s *Step) WithoutClient() (perSecond float64, ok bool) {
	if s.CPU == nil || s.CPU.Server() <= 0 {
		return 0, false
	}
	return s.heldRate() * (s.CPU.Server() + s.CPU.Client) / s.CPU.Server(), true
}

// OnAllCores returns the deliveries per second of the server if it used all cores at the price of this
// step: deliveries per second of server CPU × cores. ok is false if unknown.
func (s *Step) OnAllCores(cores int) (perSecond float64, ok bool) {
	if s.CPU == nil || s.CPU.Server() <= 0 {
		return 0, false
	}
	return float64(s.Delivered) / s.CPU.Server() * float64(cores), true
}

// serverCores and clientCores are processor time per second of the step's measured time, which is known by
// how much was delivered in it.
func (s *Step) serverCores() (cores float64, ok bool) {
	if s.CPU == nil || s.PerSecond <= 0 {
		return 0, false
	}
	return s.CPU.Server() / (float64(s.Delivered) / s.PerSecond), true
}

func (s *Step) clientCores() (cores float64, ok bool) {
	if s.CPU == nil || s.PerSecond <= 0 {
		return 0, false
	}
	return s.CPU.Client / (float64(s.Delivered) / s.PerSecond), true
}
