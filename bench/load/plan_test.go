//go:build linux

package load

import (
	"slices"
	"strings"
	"testing"
)

func validPlan() Plan {
	return Plan{Targets: []string{"127.0.0.1:1"}, Conns: 12, Rooms: 4, Senders: 2, Payload: 128, Dialing: 1, Last: 12}
}

func TestPlansThatMakeNoSense(t *testing.T) {
	for want, spoil := range map[string]func(p *Plan){
		"no target":         func(p *Plan) { p.Targets = nil },
		"0 connections":     func(p *Plan) { p.Conns = 0 },
		"13 rooms":          func(p *Plan) { p.Rooms = 13 },
		"payload of 8":      func(p *Plan) { p.Payload = 8 },
		"0 handshakes":      func(p *Plan) { p.Dialing = 0 },
		"connections 3":     func(p *Plan) { p.First, p.Last = 3, 3 },
		"4 senders":         func(p *Plan) { p.Senders = 4 },
		"0 senders":         func(p *Plan) { p.Senders = 0 },
		"5 of 4 rooms":      func(p *Plan) { p.Each, p.Senders = 5, 0 },
		"only listen":       func(p *Plan) { p.Each = 2 },
		`target "nowhere"`:  func(p *Plan) { p.Targets = []string{"nowhere"} },
		"-1 of 4 rooms":     func(p *Plan) { p.Each = -1 },
		"in 2 of 0 rooms":   func(p *Plan) { p.Rooms, p.Each = 0, 2 },
		"5 slow readers":    func(p *Plan) { p.Slow = 5 },
		"2 senders in room": func(p *Plan) { p.Each = 3 },
	} {
		p := validPlan()
		spoil(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	for name, change := range map[string]func(p *Plan){
		"as it is":      func(*Plan) {},
		"no rooms":      func(p *Plan) { p.Rooms = 0 },
		"one room each": func(p *Plan) { p.Each = 1 },
		"three each":    func(p *Plan) { p.Each, p.Senders = 3, 0 },
	} {
		p := validPlan()
		change(&p)
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRoomsOfAConnection(t *testing.T) {
	for name, tc := range map[string]struct {
		rooms, each int
		want        [][]int // by connection, of 6
	}{
		"none":              {0, 0, [][]int{nil, nil, nil, nil, nil, nil}},
		"one, dealt":        {3, 0, [][]int{{0}, {1}, {2}, {0}, {1}, {2}}},
		"one, said so":      {3, 1, [][]int{{0}, {1}, {2}, {0}, {1}, {2}}},
		"two, of the next":  {3, 2, [][]int{{0, 1}, {0, 1}, {1, 2}, {1, 2}, {2, 0}, {2, 0}}},
		"all":               {3, 3, [][]int{{0, 1, 2}, {0, 1, 2}, {1, 2, 0}, {1, 2, 0}, {2, 0, 1}, {2, 0, 1}}},
		"no divisor shared": {4, 2, [][]int{{0, 1}, {0, 1}, {1, 2}, {2, 3}, {2, 3}, {3, 0}}},
	} {
		p := Plan{Conns: 6, Rooms: tc.rooms, Each: tc.each}
		for i, want := range tc.want {
			if got := p.RoomsOf(i); !slices.Equal(got, want) {
				t.Errorf("%s: connection %d is in %v, want %v", name, i, got, want)
			}
		}
	}
}

// Every room of a plan with several rooms each has members on every node.
func TestRoomsAreSpreadOverNodes(t *testing.T) {
	p := Plan{Targets: make([]string, 3), Conns: 3000, Rooms: 100, Each: 3}
	nodes := map[[2]int]int{}
	for i := range p.Conns {
		for _, room := range p.RoomsOf(i) {
			nodes[[2]int{room, p.Target(i)}]++
		}
	}
	for room := range p.Rooms {
		for node := range 3 {
			if n := nodes[[2]int{room, node}]; n != 30 {
				t.Errorf("room %d has %d members on node %d, want 30", room, n, node)
			}
		}
	}
}
