//go:build linux

package load

import (
	"testing"
)

// arrival is one message as a receiver sees it.
type arrival struct {
	sender int
	seq    uint32
}

func receive(c *Checks, senders int, arrivals ...arrival) *receiver {
	r := &receiver{next: make([]uint32, senders)}
	for _, a := range arrivals {
		r.accept(a.sender, a.seq, c)
	}
	return r
}

func TestReceiverFindsWhatIsWrong(t *testing.T) {
	sent := []uint32{3, 2}
	for name, tc := range map[string]struct {
		arrivals []arrival
		lost     uint64
		want     Checks
	}{
		"all in order":         {[]arrival{{0, 0}, {1, 0}, {0, 1}, {0, 2}, {1, 1}}, 0, Checks{}},
		"nothing":              {nil, 5, Checks{}},
		"one in the middle":    {[]arrival{{0, 0}, {0, 2}, {1, 0}, {1, 1}}, 1, Checks{}},
		"the first":            {[]arrival{{0, 1}, {0, 2}, {1, 0}, {1, 1}}, 1, Checks{}},
		"the last of a sender": {[]arrival{{0, 0}, {0, 1}, {0, 2}, {1, 0}}, 1, Checks{}},
		"twice at once":        {[]arrival{{0, 0}, {0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}}, 0, Checks{Duplicated: 1}},
		"twice, later":         {[]arrival{{0, 0}, {0, 1}, {0, 2}, {0, 0}, {1, 0}, {1, 1}}, 0, Checks{Duplicated: 1}},
		"swapped":              {[]arrival{{0, 1}, {0, 0}, {0, 2}, {1, 1}, {1, 0}}, 0, Checks{Reordered: 2}},
		"late, then again":     {[]arrival{{0, 1}, {0, 0}, {0, 0}, {0, 2}, {1, 0}, {1, 1}}, 0, Checks{Reordered: 1, Duplicated: 1}},
		"unknown sender":       {[]arrival{{2, 0}, {0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}}, 0, Checks{Misrouted: 1}},
		"absurd number":        {[]arrival{{0, 1 << 30}, {0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}}, 0, Checks{Misrouted: 1}},
	} {
		var c Checks
		r := receive(&c, 2, tc.arrivals...)
		if got := r.lost(sent); got != tc.lost || c != tc.want {
			t.Errorf("%s: lost %d, %+v; want %d, %+v", name, got, c, tc.lost, tc.want)
		}
	}
}

func TestOrderOfARoomIsCompared(t *testing.T) {
	var c Checks
	one := []arrival{{0, 0}, {1, 0}, {0, 1}, {1, 1}}
	other := []arrival{{1, 0}, {0, 0}, {0, 1}, {1, 1}} // each sender in order, but not the same order
	var orders []Order
	for room, members := range [][][]arrival{{one, one, other}, {one, one}} {
		for _, m := range members {
			r := receive(&c, 2, m...)
			orders = addOrder(orders, Order{Room: room, Hash: r.order, Count: r.count, Members: 1})
		}
	}
	if c != (Checks{}) {
		t.Fatalf("checks %+v, want none: the senders' sequences are whole", c)
	}
	if got := Disagreeing(orders); got != 1 {
		t.Errorf("%d members disagree in %v, want 1", got, orders)
	}
	if got := Disagreeing(orders[len(orders)-1:]); got != 0 {
		t.Errorf("%d disagree in a room of one mind", got)
	}
}

func TestStampSurvivesItsSurroundings(t *testing.T) {
	want := stamp{sender: 0xfedcba98, seq: 77, due: 1_234_567_890_123_456_789}
	for _, size := range []int{stampSize, 128, 4096} {
		payload := appendStamp(nil, want, size)
		if len(payload) != size {
			t.Errorf("payload of %d bytes, want %d", len(payload), size)
		}
		text := append([]byte(`42["message",{"from":"u~17","ts":1700000000000},"`), payload...)
		text = append(text, `","e1.1700000000000-0"]`...)
		if got, ok := findStamp(text); !ok || got != want {
			t.Errorf("size %d: found %+v, %v; want %+v", size, got, ok, want)
		}
		if _, ok := findStamp(text[:len(text)-size]); ok && size == stampSize {
			t.Error("a cut stamp was taken for whole")
		}
	}
	broken := appendStamp(nil, want, 128)
	broken[len(stampMark)] = 'g'
	if _, ok := findStamp(broken); ok {
		t.Error("a stamp with a letter that is no digit was read")
	}
	if _, ok := findStamp([]byte(`42["message","hello"]`)); ok {
		t.Error("a stamp was found where there is none")
	}
}

func TestPlanDealsConnectionsAndTurns(t *testing.T) {
	for _, p := range []Plan{
		{Targets: make([]string, 3), Conns: 5000, Rooms: 50, Senders: 4},
		{Targets: make([]string, 3), Conns: 601, Rooms: 6, Senders: 5}, // rooms divisible by nodes
		{Targets: make([]string, 2), Conns: 10, Rooms: 10, Senders: 1},
	} {
		members := make([]int, p.Rooms)
		nodes := make([]map[int]int, p.Rooms)
		for i := range p.Conns {
			r := p.Room(i)
			if nodes[r] == nil {
				nodes[r] = map[int]int{}
			}
			members[r]++
			nodes[r][p.Target(i)]++
		}
		for r := range members {
			if members[r] != p.Members(r) {
				t.Errorf("room %d has %d members, Members says %d", r, members[r], p.Members(r))
			}
			for node := range min(len(p.Targets), members[r]) {
				if n := nodes[r][node] + nodes[r][(node+1)%len(p.Targets)]; n == 0 {
					t.Errorf("%+v: room %d is on nodes %v only", p, r, nodes[r])
				}
			}
		}
		seen := map[int]int{}
		for k := range 2 * p.Rooms * p.Senders {
			s := p.Turn(k)
			seen[s]++
			if i := p.SenderConn(s); i >= p.Conns || p.Room(i) != s/p.Senders {
				t.Fatalf("%+v: sender %d is connection %d of room %d", p, s, i, p.Room(i))
			}
		}
		for s := range p.Rooms * p.Senders {
			if seen[s] != 2 {
				t.Errorf("%+v: sender %d has %d turns of two rounds", p, s, seen[s])
			}
		}
	}
}

func TestPlanValidateNamesTheFault(t *testing.T) {
	good := Plan{
		Targets: []string{"127.0.0.1:80"}, Conns: 10, Rooms: 2, Senders: 2, Payload: 128, Dialing: 1, Last: 10,
	}
	if err := good.Validate(); err != nil {
		t.Fatalf("a good plan: %v", err)
	}
	for name, spoil := range map[string]func(*Plan){
		"no target":     func(p *Plan) { p.Targets = nil },
		"name":          func(p *Plan) { p.Targets = []string{"localhost:80"} },
		"rooms":         func(p *Plan) { p.Rooms = 11 },
		"small payload": func(p *Plan) { p.Payload = stampSize - 1 },
		"senders":       func(p *Plan) { p.Senders = 6 },
		"range":         func(p *Plan) { p.Last = 11 },
		"dialing":       func(p *Plan) { p.Dialing = 0 },
	} {
		p := good
		spoil(&p)
		if p.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
