//go:build linux

package load

import "testing"

func TestSlowConnsNeverSend(t *testing.T) {
	p := Plan{Conns: 100, Rooms: 5, Senders: 4, Slow: 30}
	slow := p.SlowConns()
	n, rooms := 0, map[int]int{}
	for i := range slow {
		if slow[i] {
			n++
			rooms[p.Room(i)]++
		}
	}
	if n != p.Slow || len(rooms) != p.Rooms {
		t.Errorf("%d slow in %d rooms, want %d in all %d", n, len(rooms), p.Slow, p.Rooms)
	}
	sends := map[int]bool{}
	for sender := range p.Rooms * p.Senders {
		sends[p.SenderConn(sender)] = true
		if slow[p.SenderConn(sender)] {
			t.Errorf("sender %d is slow", sender)
		}
	}
	p.Slow = 80 // everybody else
	for i, is := range p.SlowConns() {
		if is == sends[i] {
			t.Errorf("connection %d: sends %t, slow %t", i, sends[i], is)
		}
	}
}

// Slow connections stop reading in the middle of a step and read again before its end. What the others got is
// complete, and what the slow ones got does not count from then on, nor does their end as one of the others'.
func TestSlowConnsStopReadingAndResume(t *testing.T) {
	t.Parallel()
	s := newFakeServer(t)
	plan := testPlan(s.addr())
	plan.Slow = 3
	slow := plan.SlowConns()
	victim := ""
	for i := range slow {
		if slow[i] {
			victim = plan.User(i)
		}
	}
	s.spoil = func(member string, n int, frame []byte) [][]byte {
		if member == victim && n == 2 {
			return [][]byte{frame, {0x88, 0x00}} // the server closes it
		}
		return [][]byte{frame}
	}
	f := startFleet(t, plan, 2)
	up(t, f, plan)
	step := shortStep(t)
	step.StallAt, step.ResumeAt = step.Start, step.End()-1
	got, err := f.Step(step, patience)
	if err != nil {
		t.Fatal(err)
	}
	const messages, members = 80, 6
	if got.Stalled != 3 || got.Lost != 0 || got.Dropped != 0 || len(got.Failures) != 0 || got.Checks != (Checks{}) {
		t.Errorf("%d stalled, %d lost, %d dropped, %v, %+v", got.Stalled, got.Lost, got.Dropped, got.Failures, got.Checks)
	}
	if want := uint64(messages*members - messages/4*3); got.Received != want {
		t.Errorf("%d deliveries counted, want the %d of those that read", got.Received, want)
	}
	if got, err = f.Step(shortStep(t), patience); err != nil {
		t.Fatal(err)
	}
	if got.SlowGone != 1 || got.Dropped != 0 || got.Lost != 0 || got.Stalled != 0 {
		t.Errorf("%d slow ones gone, %d dropped, %d lost, %d stalled", got.SlowGone, got.Dropped, got.Lost, got.Stalled)
	}
}
