package trunk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stellara/edge/internal/leak"
)

// pair returns two nodes on the loopback, which wait for a busy machine.
func pair(t testing.TB, accept func(*Stream, byte, []byte) Receiver) (a, b *Trunks) {
	t.Helper()
	var f fleet
	a, b = testNode(&f, nodeA, nil, nil), testNode(&f, nodeB, accept, nil)
	for _, trunks := range []*Trunks{a, b} {
		trunks.times.handshake, trunks.times.silence, trunks.times.linger = time.Minute, time.Minute, time.Minute
	}
	serveTCP(t, &f, a)
	serveTCP(t, &f, b)
	return a, b
}

// pairInBubble returns two nodes on a network without a kernel.
func pairInBubble(t testing.TB, accept func(*Stream, byte, []byte) Receiver) (n *network, a, b *Trunks) {
	t.Helper()
	var f fleet
	n = &network{}
	a, b = testNode(&f, nodeA, nil, nil), testNode(&f, nodeB, accept, nil)
	servePipe(t, &f, n, a)
	servePipe(t, &f, n, b)
	return n, a, b
}

// testMessage is message i of a stream in one direction: its size and content follow from its place.
func testMessage(stream, i int) []byte {
	random := rand.New(rand.NewPCG(uint64(stream), uint64(i)))
	size := random.IntN(200)
	switch random.IntN(50) {
	case 0:
		size = random.IntN(20_000)
	case 1:
		size = 0
	}
	p := make([]byte, 8+size)
	binary.BigEndian.PutUint32(p, uint32(stream))
	binary.BigEndian.PutUint32(p[4:], uint32(i))
	for j := range p[8:] {
		p[8+j] = byte(stream + i + j)
	}
	return p
}

// checker is a receiver that expects message after message of one stream.
type checker struct {
	stream, next int // owned by the reader
	failed       *atomic.Pointer[string]
	broken       chan error
}

func (c *checker) Receive(kind byte, payload []byte) {
	if want := testMessage(c.stream, c.next); kind != byte(1+c.next%255) || !bytes.Equal(payload, want) {
		s := fmt.Sprintf("stream %d, message %d: kind %d, %d bytes", c.stream, c.next, kind, len(payload))
		c.failed.CompareAndSwap(nil, &s)
	}
	c.next++
}

func (c *checker) Broken(err error) { c.broken <- err }

// TestManyStreams: 1,000 streams with messages in both directions at once. What
// was sent arrives in order, before the end of its stream.
func TestManyStreams(t *testing.T) {
	leak.Check(t)
	const streams, messages = 1000, 40
	var failed atomic.Pointer[string]
	var senders sync.WaitGroup
	talk := func(s *Stream, stream, from int) {
		for i := from; i < messages; i++ {
			if err := s.Send(byte(1+i%255), testMessage(stream, i)); err != nil {
				s := err.Error()
				failed.CompareAndSwap(nil, &s)
			}
		}
	}
	accepted := make(chan *checker, streams)
	a, _ := pair(t, func(s *Stream, kind byte, payload []byte) Receiver {
		c := &checker{stream: int(binary.BigEndian.Uint32(payload)), failed: &failed, broken: make(chan error, 2)}
		c.Receive(kind, payload)
		accepted <- c
		senders.Go(func() { talk(s, c.stream, 0) })
		return c
	})
	opened := make([]*checker, streams)
	handles := make([]*Stream, streams)
	for i := range opened {
		opened[i] = &checker{stream: i, failed: &failed, broken: make(chan error, 2)}
		handles[i] = open(t, a, nodeB, opened[i])
	}
	var dialers sync.WaitGroup
	for i, s := range handles {
		dialers.Go(func() { talk(s, i, 0) })
	}
	theirs := make([]*checker, streams)
	for range streams {
		c := <-accepted
		theirs[c.stream] = c
	}
	dialers.Wait()
	senders.Wait()
	// What B sent is in its queue: closing on B's side ends the stream behind it.
	for i := range streams {
		if i%2 == 0 {
			handles[i].Close()
		}
	}
	for i := range streams {
		if i%2 == 1 {
			continue
		}
		if err := <-theirs[i].broken; err != ErrClosed {
			t.Errorf("stream %d was broken with %v", i, err)
		}
		if theirs[i].next != messages {
			t.Errorf("B got %d messages of stream %d", theirs[i].next, i)
		}
	}
	a.Close()
	for i := 1; i < streams; i += 2 {
		<-opened[i].broken
		if err := <-theirs[i].broken; !errors.Is(err, errPeerEnding) {
			t.Errorf("stream %d was broken with %v", i, err)
		}
		if theirs[i].next != messages {
			t.Errorf("B got %d messages of stream %d before the end", theirs[i].next, i)
		}
	}
	for i := range streams {
		if len(opened[i].broken) > 0 || len(theirs[i].broken) > 0 {
			t.Errorf("stream %d was broken twice, or after it was closed here", i)
		}
	}
	if s := failed.Load(); s != nil {
		t.Error(*s)
	}
}

// TestAnswersArriveBeforeTheEnd: the other direction of TestManyStreams.
func TestAnswersArriveBeforeTheEnd(t *testing.T) {
	leak.Check(t)
	const streams, messages = 200, 100
	var failed atomic.Pointer[string]
	a, _ := pair(t, func(s *Stream, _ byte, payload []byte) Receiver {
		stream := int(binary.BigEndian.Uint32(payload))
		for i := range messages {
			if err := s.Send(byte(1+i%255), testMessage(stream, i)); err != nil {
				t.Error(err)
			}
		}
		s.Close()
		return newRecorder()
	})
	for i := range streams {
		c := &checker{stream: i, failed: &failed, broken: make(chan error, 2)}
		s := open(t, a, nodeB, c)
		send(t, s, 1, string(testMessage(i, 0)))
		if err := <-c.broken; err != ErrClosed || c.next != messages {
			t.Errorf("%d messages, then %v", c.next, err)
		}
		if err := s.Send(1, nil); err != ErrClosed {
			t.Errorf("Send after the peer's Close: %v", err)
		}
		s.Close()
	}
	if s := failed.Load(); s != nil {
		t.Error(*s)
	}
}

// TestCloseFromBothSides: whoever comes first, nobody is told twice, and
// nothing is left.
func TestCloseFromBothSides(t *testing.T) {
	leak.Check(t)
	type end struct {
		*Stream
		*recorder
	}
	theirs := make(chan end, 1)
	a, b := pair(t, func(s *Stream, _ byte, _ []byte) Receiver {
		e := end{s, newRecorder()}
		theirs <- e
		return e.recorder
	})
	ends := make([]*recorder, 0, 600)
	for i := range 300 {
		local := newRecorder()
		s := open(t, a, nodeB, local)
		send(t, s, 1, "")
		peer := <-theirs
		ends = append(ends, local, peer.recorder)
		var both sync.WaitGroup
		both.Go(s.Close)
		both.Go(func() {
			if i%3 == 0 {
				time.Sleep(time.Duration(i) * time.Microsecond) // any order will do
			}
			peer.Close()
		})
		both.Wait()
		s.Close()
		if err := s.Send(1, nil); err != ErrClosed {
			t.Fatalf("Send: %v", err)
		}
	}
	// A stream behind them says that all was dealt with: the way there, and back.
	last := newRecorder()
	send(t, open(t, a, nodeB, last), 1, "")
	(<-theirs).Close()
	last.end(t)
	for _, r := range ends {
		if len(r.broken) > 1 || len(r.messages) > 0 {
			t.Errorf("%d calls of Broken, %d messages", len(r.broken), len(r.messages))
		}
	}
	for _, trunks := range []*Trunks{a, b} {
		trunks.mu.Lock()
		for trunk := range trunks.trunks {
			trunk.mu.Lock()
			if len(trunk.streams) > 0 {
				t.Errorf("%d streams are left", len(trunk.streams))
			}
			trunk.mu.Unlock()
		}
		trunks.mu.Unlock()
	}
}

// TestNothingAfterClose: what arrives for a stream that was closed here is dropped.
func TestNothingAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs := make(chan *Stream, 1)
		_, a, _ := pairInBubble(t, func(s *Stream, _ byte, _ []byte) Receiver {
			theirs <- s
			return newRecorder()
		})
		r := newRecorder()
		s := open(t, a, nodeB, r)
		send(t, s, 1, "hello")
		peer := <-theirs
		s.Close()
		_ = peer.Send(2, []byte("too late")) // on its way before B knows
		synctest.Wait()
		if len(r.messages) > 0 || len(r.broken) > 0 {
			t.Error("the receiver was called after Close")
		}
		if err := peer.Send(2, nil); err != ErrClosed {
			t.Errorf("B's Send: %v", err)
		}
	})
}

// TestCloseWithinReceive: a receiver may close its stream, and gets nothing more.
func TestCloseWithinReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, _ := pairInBubble(t, echo)
		r := newRecorder()
		s := open(t, a, nodeB, r)
		r.on = func(byte, []byte) { s.Close() }
		send(t, s, 1, "one")
		_ = s.Send(1, []byte("two")) // an error if the first answer was quicker
		synctest.Wait()
		if len(r.messages) != 1 || len(r.broken) != 0 {
			t.Errorf("%d messages, %d calls of Broken", len(r.messages), len(r.broken))
		}
	})
}

// TestRefused: a stream that is not accepted ends for the peer.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, _ := pairInBubble(t, func(*Stream, byte, []byte) Receiver { return nil })
		r := newRecorder()
		send(t, open(t, a, nodeB, r), 1, "")
		if err := r.end(t); err != ErrClosed {
			t.Errorf("broken with %v", err)
		}
	})
}

// TestNeverUsed: a stream without a message is nothing to the peer.
func TestNeverUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pairInBubble(t, func(*Stream, byte, []byte) Receiver {
			t.Error("accepted")
			return nil
		})
		r := newRecorder()
		open(t, a, nodeB, newRecorder()).Close()
		open(t, a, nodeB, r)
		synctest.Wait()
		b.Close()
		if err := r.end(t); !errors.Is(err, errPeerEnding) {
			t.Errorf("broken with %v", err)
		}
	})
}

// TestPanics: a panic ends its stream and nothing else.
func TestPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, _ := pairInBubble(t, func(s *Stream, kind byte, payload []byte) Receiver {
			switch kind {
			case 1:
				panic("in Accept")
			case 2:
				r := newRecorder()
				r.on = func(byte, []byte) { panic("in Receive") }
				return r
			}
			return echo(s, kind, payload)
		})
		good := newRecorder()
		s := open(t, a, nodeB, good)
		send(t, s, 3, "before")
		inAccept, inReceive, here, broken := newRecorder(), newRecorder(), newRecorder(), panicking{make(chan struct{})}
		send(t, open(t, a, nodeB, inAccept), 1, "")
		second := open(t, a, nodeB, inReceive)
		send(t, second, 2, "")
		send(t, second, 2, "")
		here.on = func(byte, []byte) { panic("in the opener's Receive") }
		send(t, open(t, a, nodeB, here), 3, "")
		send(t, open(t, a, nodeB, broken), 1, "")
		for _, r := range []*recorder{inAccept, inReceive} {
			if err := r.end(t); err != ErrClosed {
				t.Errorf("broken with %v", err)
			}
		}
		<-broken.called
		synctest.Wait()
		if len(here.broken) != 0 {
			t.Error("a stream closed by a panic here was broken as well")
		}
		send(t, s, 3, "after")
		if one, two := good.next(t), good.next(t); one.payload != "before" || two.payload != "after" {
			t.Errorf("another stream got %v, %v", one, two)
		}
	})
}

// panicking is a receiver whose Broken panics.
type panicking struct{ called chan struct{} }

func (p panicking) Receive(byte, []byte) {}
func (p panicking) Broken(error) {
	close(p.called)
	panic("in Broken")
}

func TestSendBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, _ := pairInBubble(t, echo)
		r := newRecorder()
		s := open(t, a, nodeB, r)
		if err := s.Send(1, make([]byte, MaxMessage+1)); err != ErrTooBig {
			t.Errorf("a message above the bound: %v", err)
		}
		send(t, s, 255, "")
		if m := r.next(t); m != (message{255, ""}) {
			t.Errorf("got %v", m)
		}
		defer func() {
			if recover() == nil {
				t.Error("kind 0 was sent")
			}
		}()
		_ = s.Send(0, nil)
	})
}

// TestLargestMessage goes there and back.
func TestLargestMessage(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 160 MiB")
	}
	leak.Check(t)
	a, _ := pair(t, echo)
	r := &sizes{make(chan int, 2)}
	s := open(t, a, nodeB, r)
	if err := s.Send(1, make([]byte, MaxMessage)); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(1, nil); err != nil && err != ErrFull {
		t.Fatal(err)
	}
	if n := <-r.got; n != MaxMessage {
		t.Errorf("%d bytes came back", n)
	}
}
