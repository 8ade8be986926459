package delivery

import (
	"context"
	"testing"
)

// TestPublisherRepeats loses a connection, is told that a message's fate is unknown, and is refused, and
// sends the same message each time.
func TestPublisherRepeats(t *testing.T) {
	f := newFake(t)
	p := NewPublisher(NewFleet([]string{f.addr}), "r", 3, true)
	defer p.Close()
	done := make(chan error, 1)
	go func() { done <- p.Publish(context.Background()) }()
	const first = `["message",{"room":"r","id":"1"},{"stream":3,"n":1}]`
	in := func() *fakeConn {
		k := f.next()
		k.expect(`40{"userId":"publisher-r"}`)
		k.send(`40{"sid":"s"}`)
		k.expect(`420["join","r"]`)
		k.send(`430[{"ok":true}]`)
		return k
	}
	k := in()
	k.expect("421" + first)
	k.c.Close()
	k = in()
	k.expect("421" + first)
	k.send(`431[{"ok":false,"code":"unknown"}]`)
	k = in()
	k.expect("421" + first)
	k.send(`431[{"ok":false,"code":"queue_full"}]`)
	k.expect("422" + first)
	if p.Begun() != 1 || p.Acked() != 0 {
		t.Errorf("begun %d, acknowledged %d", p.Begun(), p.Acked())
	}
	k.send(`432[{"ok":true}]`)
	if err := <-done; err != nil || p.Acked() != 1 {
		t.Errorf("%v, acknowledged %d", err, p.Acked())
	}
	go func() { done <- p.Publish(context.Background()) }()
	k.expect(`423["message",{"room":"r","id":"2"},{"stream":3,"n":2}]`)
	k.send(`433[{"ok":true}]`)
	if err := <-done; err != nil {
		t.Error(err)
	}
	s := p.TakeStats()
	if s.Published != 2 || s.Repeated["connection lost"] != 1 || s.Repeated["unknown"] != 1 || s.Repeated["queue_full"] != 1 || s.Refused["unknown"] != 1 {
		t.Errorf("%+v", s)
	}
}

func TestPublisherEndsWithItsContext(t *testing.T) {
	f := newFake(t)
	p := NewPublisher(NewFleet([]string{f.addr}), "r", 3, false)
	defer p.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Publish(ctx) }()
	k := f.next()
	k.expect("40{")
	cancel()
	if err := <-done; err == nil {
		t.Error("a message that nobody took was published")
	}
}

func TestTakesIDs(t *testing.T) {
	for answer, want := range map[string]bool{`431[{"ok":true}]`: true, `431[{"ok":false,"code":"room_invalid"}]`: false} {
		f := newFake(t)
		type found struct {
			ids bool
			err error
		}
		done := make(chan found, 1)
		go func() {
			ids, err := TakesIDs(context.Background(), f.addr)
			done <- found{ids, err}
		}()
		k := f.next()
		k.expect("40{")
		k.send(`40{"sid":"s"}`)
		k.expect(`420["join"`)
		k.send(`430[{"ok":true}]`)
		k.expect(`421["message",{"room":`)
		k.send(answer)
		if got := <-done; got != (found{want, nil}) {
			t.Errorf("%s: %+v", answer, got)
		}
	}
}
