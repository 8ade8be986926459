package report

import (
	"fmt"
	"maps"
	"slices"
)

// Loss is what became of nodes that were killed with all their connections, and of those that stayed.
type Loss struct {
	Victims     int     `json:"victims"` // nodes
	Conns       int     `json:"conns"`   // that they held, each a user of its own
	Rooms       int     `json:"rooms"`
	RoomsEach   int     `json:"rooms_each"`
	Entries     int     `json:"entries"` // to be removed: presence:online, rooms and the user's key, for each connection
	WaitSeconds float64 `json:"wait_seconds"`

	EndedSeconds float64 `json:"victims_ended_s"` // when the kernel was done with the victims

	Right    bool      `json:"right"` // every key, within the wait
	Times    LossTimes `json:"times"`
	Keys     int       `json:"keys"`
	Wrong    int       `json:"wrong"` // keys at the end of the wait
	Examples []string  `json:"examples,omitempty"`
	Looks    []Look    `json:"looks"` // since the kill

	UsualCPU     CPU     `json:"usual_cpu"` // of the survivors and Redis, in the measured time before the kill
	UsualSeconds float64 `json:"usual_seconds"`
	CPU          CPU     `json:"cpu"` // beyond the usual, from the kill until the counts were right
	StallBefore  Latency `json:"machine_stall_before"`
	Stall        Latency `json:"machine_stall"` // from the kill on

	Survivors     int     `json:"survivor_conns"`
	SurvivorRooms int     `json:"survivor_rooms"`
	Before        Latency `json:"before"`   // of the survivors' messages
	During        Latency `json:"during"`   // of those that arrived from the kill until the keys were right
	Removing      Latency `json:"removing"` // of those of them that arrived while entries were removed
	Sent          uint64  `json:"sent"`
	Refused       uint64  `json:"refused"`
	Lost          uint64  `json:"lost"`
	Duplicated    uint64  `json:"duplicated"`
	Reordered     uint64  `json:"out_of_order"` // or in a wrong room
	Disagreeing   int     `json:"members_with_another_order"`
	Dropped       int     `json:"dropped_connections"`

	ReadsBefore   Latency        `json:"reads_before"` // presence of a room, asked through a survivor
	ReadsDuring   Latency        `json:"reads_during"`
	ReadsRemoving Latency        `json:"reads_removing"`
	ReadsFailed   map[string]int `json:"reads_failed,omitempty"`
}

// Look is what one look at the keys of the lost connections counted.
type Look struct {
	At      float64 `json:"at_s"`    // seconds after the kill
	Online  int     `json:"online"`  // users in presence:online
	Members int     `json:"members"` // of all rooms of the victims' connections
	Keys    int     `json:"keys"`    // users' keys, of a sample
}

// Same reports whether both looks counted the same.
func (l Look) Same(o Look) bool {
	return l.Online == o.Online && l.Members == o.Members && l.Keys == o.Keys
}

// LossTimes are seconds after the kill; -1 is never.
type LossTimes struct {
	First   float64 `json:"first_s"` // the first removal was seen
	Last    float64 `json:"last_s"`
	Reap    float64 `json:"reap_s"` // from the first to the last
	Online  float64 `json:"online_right_s"`
	Members float64 `json:"rooms_right_s"`
	Keys    float64 `json:"keys_right_s"`
	Right   float64 `json:"right_s"` // every key was compared and right
}

// TimesOf reads the times of removals and of right counts out of looks in order, of which the first one
// was made before anything was removed. Right is left open, as counts do not tell.
func TimesOf(looks []Look, want Look) LossTimes {
	t := LossTimes{First: -1, Last: -1, Online: -1, Members: -1, Keys: -1, Right: -1}
	for i, l := range looks {
		if i > 0 {
			if o := looks[i-1]; l.Online < o.Online || l.Members < o.Members || l.Keys < o.Keys {
				t.Last = l.At
				if t.First < 0 {
					t.First = l.At
				}
			}
		}
		for _, count := range []struct {
			at         *float64
			have, want int
		}{{&t.Online, l.Online, want.Online}, {&t.Members, l.Members, want.Members}, {&t.Keys, l.Keys, want.Keys}} {
			switch {
			case count.have != count.want:
				*count.at = -1
			case *count.at < 0:
				*count.at = l.At
			}
		}
	}
	if t.First >= 0 {
		t.Reap = t.Last - t.First
	}
	return t
}

// lossRows shows the loss.
func lossRows(t *table) {
	each := func(label string, get func(*Loss) figure) {
		t.row(label, false, func(s *System) figure {
			if s.Loss == nil {
				return missing()
			}
			return get(s.Loss)
		})
	}
	seconds := func(label string, get func(*LossTimes) float64) {
		each(label, func(l *Loss) figure { return after(get(&l.Times), l.WaitSeconds) })
	}
	t.section("nodes killed with all their connections: seconds after the kill (looks every 0.1 s)")
	each("nodes / connections / rooms each", func(l *Loss) figure {
		return figure{0, fmt.Sprintf("%d / %s / %d", l.Victims, thousands(float64(l.Conns)), l.RoomsEach)}
	})
	seconds("first removal", func(t *LossTimes) float64 { return t.First })
	seconds("presence:online right", func(t *LossTimes) float64 { return t.Online })
	seconds("rooms right", func(t *LossTimes) float64 { return t.Members })
	seconds("users' keys right (1,000 of them)", func(t *LossTimes) float64 { return t.Keys })
	seconds("every key compared and right", func(t *LossTimes) float64 { return t.Right })
	each("first to last removal", func(l *Loss) figure { return number(l.Times.Reap, "%.1f s") })
	each("keys wrong in the end / keys", func(l *Loss) figure {
		return figure{0, thousands(float64(l.Wrong)) + " / " + thousands(float64(l.Keys))}
	})
	each("Redis CPU for it", func(l *Loss) figure { return number(l.CPU.Redis, "%.2f s") })
	each("  per removed entry", func(l *Loss) figure { return number(l.CPU.Redis/float64(max(l.Entries, 1))*1e6, "%.2f µs") })
	each("  usual before, of a core", func(l *Loss) figure { return number(l.UsualCPU.Redis/l.UsualSeconds*100, "%.1f %%") })
	each("survivors' CPU for it", func(l *Loss) figure { return number(l.CPU.Nodes, "%.2f s") })
	each("victims' sockets closed by the kernel", func(l *Loss) figure { return number(l.EndedSeconds, "%.1f s") })
	survivorRows(t, each)
}

// survivorRows shows what those noticed who stayed: before the kill, and from then on until the keys
// were right, with a row for the part of that time in which entries were removed.
func survivorRows(t *table, each func(string, func(*Loss) figure)) {
	t.section("the survivors: before the kill / from then until the keys were right")
	both := func(label string, get func(*Loss) (a, b *Latency), value func(*Latency) float64) {
		each(label, func(l *Loss) figure {
			a, b := get(l)
			return figure{0, millis(value(a)).text + " / " + millis(value(b)).text}
		})
	}
	p50, p99 := func(l *Latency) float64 { return l.P50 }, func(l *Latency) float64 { return l.P99 }
	most := func(l *Latency) float64 { return l.Max }
	messages := func(l *Loss) (a, b *Latency) { return &l.Before, &l.During }
	reads := func(l *Loss) (a, b *Latency) { return &l.ReadsBefore, &l.ReadsDuring }
	counts := func(l *Loss, get func(*Loss) (a, b *Latency)) figure {
		a, b := get(l)
		return figure{0, thousands(float64(a.Count)) + " / " + thousands(float64(b.Count))}
	}
	removing := func(of *Latency) figure {
		if of.Count == 0 {
			return missing()
		}
		return millis(of.P99)
	}
	each("deliveries", func(l *Loss) figure { return counts(l, messages) })
	both("message latency p50", messages, p50)
	both("message latency p99", messages, p99)
	each("  while entries were removed", func(l *Loss) figure { return removing(&l.Removing) })
	both("message latency max", messages, most)
	both("worst stall of the machine itself", func(l *Loss) (a, b *Latency) { return &l.StallBefore, &l.Stall }, most)
	each("lost / duplicated / out of order", func(l *Loss) figure {
		return figure{0, fmt.Sprintf("%d / %d / %d", l.Lost, l.Duplicated, l.Reordered)}
	})
	each("refused / dropped conns", func(l *Loss) figure { return figure{0, fmt.Sprintf("%d / %d", l.Refused, l.Dropped)} })
	each("presence reads", func(l *Loss) figure { return counts(l, reads) })
	both("presence read p50", reads, p50)
	both("presence read p99", reads, p99)
	each("  while entries were removed", func(l *Loss) figure { return removing(&l.ReadsRemoving) })
	both("presence read max", reads, most)
}

// after shows seconds after the kill.
func after(s, wait float64) figure {
	if s < 0 {
		return figure{s, fmt.Sprintf("not in %.0f s", wait)}
	}
	return number(s, "%.1f s")
}

// complaints lists keys that were wrong in the end, and reads that failed.
func (l *Loss) complaints() (lines []string) {
	for _, e := range l.Examples {
		lines = append(lines, fmt.Sprintf("%.0f s after the kill: %s", l.WaitSeconds, e))
	}
	for _, reason := range slices.Sorted(maps.Keys(l.ReadsFailed)) {
		lines = append(lines, fmt.Sprintf("presence read: %d × %s", l.ReadsFailed[reason], reason))
	}
	return lines
}

// What a loss may cost. Presence is promised to be right within two leases of 10 s; a lease takes up to
// 13.5 s to run out and to be noticed, so that 6.5 s remain for the removals.
const (
	maxRightSeconds = 20.0
	maxReapSeconds  = 6.5
)

func judgeLoss(edge *System) []Verdict {
	l := edge.Loss
	if l == nil {
		return []Verdict{unknown("presence right after the kill", "≤ 20.0 s", "no loss")}
	}
	right := atMost("presence right after the kill", l.Times.Right, maxRightSeconds, "%.1f s")
	reap := atMost("first to last removal", l.Times.Reap, maxReapSeconds, "%.1f s")
	if !l.Right {
		right.Result, right.Got = Miss, fmt.Sprintf("%d of %d keys wrong after %.0f s", l.Wrong, l.Keys, l.WaitSeconds)
		reap.Result, reap.Got = Miss, "not all were removed"
	}
	delivery := Verdict{What: "survivors: lost, duplicated, out of order", Target: "0, one order", Got: "0", Result: Pass}
	if l.Lost+l.Duplicated+l.Reordered > 0 || l.Disagreeing+l.Dropped > 0 {
		delivery.Result = Miss
		delivery.Got = fmt.Sprintf("%d lost, %d others, %d orders, %d conns", l.Lost, l.Duplicated+l.Reordered, l.Disagreeing, l.Dropped)
	}
	reads := Verdict{What: "presence reads that failed", Target: "0", Got: "0", Result: Pass}
	if n := len(l.ReadsFailed); n > 0 {
		reads.Got, reads.Result = fmt.Sprintf("%d reasons", n), Miss
	}
	return []Verdict{right, reap, atMost("survivors' message p99 meanwhile", l.During.P99, maxP99HighestMS, "%.1f ms"), delivery, reads}
}
