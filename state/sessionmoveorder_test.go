package state

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stellara/edge/socketio"
)

// pounding is nodes that publish to a room as fast as they can, every other
// message journalled.
type pounding struct {
	nodes []*node
	stop  chan struct{}
	wg    sync.WaitGroup
}

// poundingWindow is how many messages of a node are under way.
const poundingWindow = 4

func pound(t *testing.T, nodes []*node) *pounding {
	p := &pounding{nodes: nodes, stop: make(chan struct{})}
	for _, n := range nodes {
		subscribe(t, n, "/", "r", 1)
	}
	for i, n := range nodes {
		p.wg.Go(func() { p.publish(t, n, strconv.Itoa(i)) })
	}
	return p
}

func (p *pounding) publish(t *testing.T, n *node, name string) {
	free := make(chan struct{}, poundingWindow)
	for i := 0; ; i++ {
		select {
		case <-p.stop:
			return
		case free <- struct{}{}:
		}
		b := socketio.Broadcast{
			UID: "uidAAA", Namespace: "/", Rooms: []string{"r"}, Journal: i%2 == 0,
			Data: append([]byte{0x91}, socketio.AppendMsgpackString(nil, name+"."+strconv.Itoa(i))...),
		}
		err := n.Bus().Publish(socketio.Publication{
			Namespace: "/", Room: "r", Payload: socketio.AppendBroadcast(nil, &b), Journal: b.Journal,
			Done: func(error) { <-free },
		})
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// end stops, and waits until every node has everything that is journalled.
func (p *pounding) end(t *testing.T) {
	t.Helper()
	close(p.stop)
	p.wg.Wait()
	for _, n := range p.nodes {
		if err := await(t, "the last message", n.journalled(t, "/", "r", "end of "+n.id)); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range p.nodes {
		for _, other := range p.nodes {
			eventually(t, "everything arrives", func() error {
				if !slices.Contains(n.texts(), "end of "+other.id) {
					return errNotYet
				}
				return nil
			})
		}
	}
}

// heard is what a node was told of generation g's cut.
func (n *node) heard(g uint64) (heardCut, bool) {
	n.recorder.mu.Lock()
	defer n.recorder.mu.Unlock()
	i := slices.IndexFunc(n.cuts, func(c heardCut) bool { return c.generation == g })
	if i < 0 {
		return heardCut{}, false
	}
	return n.cuts[i], true
}

// rightCuts checks that no position that a node was given is wrong: before it is
// what is journalled up to there, and after it the rest. It returns how many were
// given, and how many were zero.
func (n *node) rightCuts(t *testing.T) (given, zero int) {
	t.Helper()
	deliveries := n.delivered()
	n.recorder.mu.Lock()
	defer n.recorder.mu.Unlock()
	for _, c := range n.cuts {
		if c.at.IsZero() {
			zero++
			continue
		}
		given++
		for i, d := range deliveries {
			if o, ok := socketio.EntryOf([]byte(d.payload)); ok && o.After(c.at) != (i >= c.before) {
				t.Errorf("%s: delivery %d at %v, and %d before the cut at %v", n.id, i, o, c.before, c.at)
				break
			}
		}
	}
	return given, zero
}

// Whatever is published, and however often a session moves: what one owner had
// before the cut and the next after it is everything, once, in order.
func TestMovesLeaveNothingOut(t *testing.T) {
	modes(t, func(t *testing.T, b *backend, pattern bool) {
		var nodes []*node
		for _, id := range []string{"nodeAAAA", "nodeBBBB", "nodeCCCC"} {
			nodes = append(nodes, b.start(t, id, func(c *Config) { c.Recovery, c.Pattern = true, pattern }))
		}
		ref, _ := nodes[0].create(t, newSession("ann"))
		p := pound(t, nodes)
		r := rand.New(rand.NewPCG(1, 2))
		const moves = 60
		owners := []int{0}
		for range moves {
			from := owners[len(owners)-1]
			to := (from + 1 + r.IntN(2)) % 3
			b.hasSign(t, nodes[from])
			ref = nodes[to].moved(t, moveFrom(nodes[from], ref)).ref()
			owners = append(owners, to)
		}
		p.end(t)

		var got []string
		at := 0 // what the present owner has delivered when it becomes it
		for i, owner := range owners {
			n, texts := nodes[owner], nodes[owner].texts()
			end := len(texts)
			if i > 0 {
				c, ok := n.heard(uint64(i + 1))
				if !ok {
					t.Fatalf("generation %d was not told of its beginning", i+1)
				}
				at = c.before
			}
			if i < moves {
				c, ok := n.heard(uint64(i + 2))
				if !ok {
					t.Fatalf("generation %d was not told of its end", i+1)
				}
				end = c.before
			}
			got = append(got, texts[at:end]...)
		}
		for _, n := range nodes {
			if want := n.texts(); !slices.Equal(got, want) {
				t.Errorf("the owners delivered %d messages, %s alone %d; different from the %dth on", len(got), n.id, len(want), firstDifference(got, want))
			}
			if _, zero := n.rightCuts(t); zero > 0 {
				t.Errorf("%s was not told where %d cuts are", n.id, zero)
			}
		}
		sorted := slices.Clone(got)
		slices.Sort(sorted)
		if n := len(slices.Compact(sorted)); n != len(got) || n < moves {
			t.Errorf("%d of %d messages are different", n, len(got))
		}
		t.Logf("%d messages, %d moves", len(got), moves)
	})
}

func firstDifference(a, b []string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// hasSign waits until the node has any.
func (b *backend) hasSign(t testing.TB, n *node) {
	t.Helper()
	eventually(t, "a sign", func() error {
		if b.sign(t, n) == "" {
			return errNotYet
		}
		return nil
	})
}

// A node that does not hear, or has not read what it did not hear, is not told of
// the cut, or not where it is; and never what is wrong.
func TestMovesWhileANodeHearsNothing(t *testing.T) {
	realModes(t, func(t *testing.T, b *backend, pattern bool) {
		var nodes []*node
		for _, id := range []string{"nodeAAAA", "nodeBBBB"} {
			nodes = append(nodes, b.start(t, id, func(c *Config) { c.Recovery, c.Pattern = true, pattern }))
		}
		ref, _ := nodes[0].create(t, newSession("ann"))
		p := pound(t, nodes)
		r := rand.New(rand.NewPCG(3, 4))
		const rounds, perRound = 6, 3
		owner := 0
		move := func() {
			b.hasSign(t, nodes[owner])
			ref = nodes[1-owner].moved(t, moveFrom(nodes[owner], ref)).ref()
			owner = 1 - owner
		}
		for range rounds {
			for _, i := range [][]int{{0}, {1}, {0, 1}}[r.IntN(3)] {
				for _, id := range b.clientIDs(t, nodes[i].bus.link.name+"-ps") {
					b.do(t, "CLIENT", "KILL", "ID", strings.TrimPrefix(id, "txt:id="))
				}
			}
			move()
			for _, n := range nodes {
				eventually(t, "the node's own channel is live", func() error {
					n.bus.subsMu.Lock()
					defer n.bus.subsMu.Unlock()
					if !n.bus.subs.controlLive() {
						return errNotYet
					}
					return nil
				})
			}
			move()
			for _, n := range nodes {
				eventually(t, "node is ready", n.Ready)
			}
			move()
		}
		p.end(t)
		total, without := 0, 0
		for _, n := range nodes {
			given, zero := n.rightCuts(t)
			t.Logf("%s: %d cuts with a position, %d without, %d not heard", n.id, given, zero, rounds*perRound-given-zero)
			total += given
			without += rounds*perRound - given
			if len(n.misses()) > 0 {
				t.Errorf("%s missed messages", n.id)
			}
		}
		if total == 0 || without == 0 {
			t.Errorf("%d cuts with a position and %d without, so that little was tested", total, without)
		}
	})
}
