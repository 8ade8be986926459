package state

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// An answer that is lost on the way: the batch is sent again, and is in the
// journal and on the channel once.
func TestUnknownOutcomeIsFoundOut(t *testing.T) {
	b := realRedis(t)
	g := newGate(t, b)
	n := b.startBehind(t, g, "nodeAAAA", recovering)
	sha := []byte(n.journal.scripts[metrics.JournalPublish].sha)
	if err := await(t, "warm", n.journalled(t, "/", "", "0")); err != nil {
		t.Fatal(err)
	}
	want := []string{"0"}
	for i := range 3 {
		var mu sync.Mutex
		asked, cuts := map[*gated]bool{}, 0
		g.set(func(c *gated, toRedis bool, chunk []byte) action {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case toRedis && cuts == 0 && bytes.Contains(chunk, sha):
				asked[c] = true
			case !toRedis && asked[c]:
				delete(asked, c)
				cuts++
				return cut
			}
			return pass
		})
		text := fmt.Sprint(i + 1)
		want = append(want, text)
		if err := await(t, "done", n.journalled(t, "/", "", text)); err != nil {
			t.Errorf("message %s: %v", text, err)
		}
		mu.Lock()
		if cuts != 1 {
			t.Errorf("message %s: %d cuts, so that nothing was tested", text, cuts)
		}
		mu.Unlock()
	}
	expectTexts(t, n, want...)
	if got := b.stream(t, "/"); !slices.Equal(got, want) {
		t.Errorf("the journal is %q", got)
	}
	if got := testutil.ToFloat64(n.metrics.PublishRetries); got < 3 {
		t.Errorf("%v retries counted", got)
	}
}

// A plain message whose answer is lost is not sent again.
func TestUnknownOutcomeOfAPlainMessage(t *testing.T) {
	b := realRedis(t)
	g := newGate(t, b)
	n := b.startBehind(t, g, "nodeAAAA", nil)
	var mu sync.Mutex
	asked := map[*gated]bool{}
	g.set(func(c *gated, toRedis bool, chunk []byte) action {
		mu.Lock()
		defer mu.Unlock()
		if toRedis && bytes.Contains(chunk, []byte("the plain one")) {
			asked[c] = true
		}
		if !toRedis && asked[c] {
			return cut
		}
		return pass
	})
	done, c := outcome()
	if err := n.Bus().Publish(socketio.Publication{Namespace: "/", Payload: []byte("the plain one"), Done: done}); err != nil {
		t.Fatal(err)
	}
	if err := await(t, "done", c); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v, want ErrUnknown", err)
	}
	g.set(nil)
	// The node may hear of the other cuts only now, so being ready says nothing yet: what passes does.
	eventually(t, "a message passes again", func() error {
		done, c := outcome()
		if err := n.Bus().Publish(socketio.Publication{Namespace: "/", Payload: []byte("after"), Done: done}); err != nil {
			return err
		}
		return await(t, "after", c)
	})
	eventually(t, "it arrives", func() error {
		got := n.delivered()
		if len(got) == 0 || got[len(got)-1].payload != "after" {
			return fmt.Errorf("delivered %q", got)
		}
		return nil
	})
	plain := 0
	for _, d := range n.delivered() {
		if d.payload == "the plain one" {
			plain++
		}
	}
	if plain > 1 {
		t.Errorf("the plain message was delivered %d times", plain)
	}
}

// While Redis is away, nobody waits longer than 10 s; what Redis took is still
// published once.
func TestNobodyWaitsForEver(t *testing.T) {
	b := realRedis(t)
	n := b.open(t, "nodeAAAA", recovering)
	n.bus.doubt, n.bus.patience = 100*time.Millisecond, time.Second
	n.Bus().Open("/")
	n.run(t)
	eventually(t, "ready", n.Ready)
	if err := await(t, "warm", n.journalled(t, "/", "", "warm")); err != nil {
		t.Fatal(err)
	}
	b.redis.freeze(t)
	first := n.underWay(t, "first")
	second := n.journalled(t, "/", "", "second")
	if err := await(t, "first", first); !errors.Is(err, ErrUnknown) {
		t.Errorf("first: %v, want ErrUnknown", err)
	}
	if err := await(t, "second", second); !errors.Is(err, ErrUnavailable) {
		t.Errorf("second: %v, want ErrUnavailable", err)
	}
	b.redis.thaw(t)
	b.observe(t)
	eventually(t, "ready again", n.Ready)
	expectTexts(t, n, "warm", "first") // until then the third would wait behind it, out of patience
	if err := await(t, "third", n.journalled(t, "/", "", "third")); err != nil {
		t.Error(err)
	}
	expectTexts(t, n, "warm", "first", "third")
	if got := b.stream(t, "/"); strings.Join(got, " ") != "warm first third" {
		t.Errorf("the journal is %q", got)
	}
}
