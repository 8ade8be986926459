package state

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// recovering turns the journal on.
func recovering(c *Config) { c.Recovery = true }

// entry is a payload that is to be journalled, as the engine makes it.
func entry(ns, room, text string) []byte {
	b := socketio.Broadcast{UID: "uidAAA", Namespace: ns, Data: append([]byte{0x91}, socketio.AppendMsgpackString(nil, text)...), Journal: true}
	if room != "" {
		b.Rooms = []string{room}
	}
	return socketio.AppendBroadcast(nil, &b)
}

// textOf is the text of such a payload, "" of another.
func textOf(payload string) string {
	var b socketio.Broadcast
	if socketio.ParseBroadcast([]byte(payload), &b) != nil || len(b.Data) < 2 {
		return ""
	}
	var text string
	if b.Data[1]&0xe0 == 0xa0 {
		text = string(b.Data[2:])
	}
	return text
}

// journalled publishes a message that is journalled and returns its outcome.
func (n *node) journalled(t testing.TB, ns, room, text string) <-chan error {
	t.Helper()
	done, c := outcome()
	p := socketio.Publication{Namespace: ns, Room: room, Payload: entry(ns, room, text), Journal: true, Done: done}
	if err := n.Bus().Publish(p); err != nil {
		t.Fatal(err)
	}
	return c
}

// underWay publishes a journalled message to everybody and waits until it is
// handed to the connection.
func (n *node) underWay(t testing.TB, text string) <-chan error {
	t.Helper()
	done, c := outcome()
	sent := make(chan struct{})
	p := socketio.Publication{
		Namespace: "/", Payload: entry("/", "", text), Journal: true, Sent: func() { close(sent) }, Done: done,
	}
	if err := n.Bus().Publish(p); err != nil {
		t.Fatal(err)
	}
	select {
	case <-sent:
	case <-time.After(patience):
		t.Fatalf("%s is not under way", text)
	}
	return c
}

// texts are those of the deliveries.
func (n *node) texts() (all []string) {
	for _, d := range n.delivered() {
		all = append(all, textOf(d.payload))
	}
	return all
}

func expectTexts(t testing.TB, n *node, want ...string) {
	t.Helper()
	eventually(t, "deliveries", func() error {
		if got := n.texts(); !slices.Equal(got, want) {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}

// stream is what Redis has of a journal: texts in order.
func (b *backend) stream(t testing.TB, ns string) (all []string) {
	t.Helper()
	ctx := t.Context()
	entries, err := b.observer.Do(ctx, b.observer.B().Xrange().Key("socket.io-journal#"+ns+"#").Start("-").End("+").Build()).AsXRange()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, textOf(e.FieldValues["m"]))
	}
	return all
}

// The payload arrives as it was published, with the position of its entry in the
// place of the nil; the journal has it with the nil.
func TestJournalledPayload(t *testing.T) {
	modes(t, func(t *testing.T, b *backend, pattern bool) {
		n := b.start(t, "nodeAAAA", func(c *Config) { c.Pattern, c.Recovery = pattern, true })
		subscribe(t, n, "/", "r1", 1)
		for _, err := range []<-chan error{n.journalled(t, "/", "r1", "one"), n.journalled(t, "/", "", "two")} {
			if err := await(t, "done", err); err != nil {
				t.Fatal(err)
			}
		}
		publish(t, n, "/", "r1", "plain")
		eventually(t, "three deliveries", func() error {
			if len(n.delivered()) < 3 {
				return errNotYet
			}
			return nil
		})
		epoch := b.text(t, "HGET", "socket.io-journal", "epoch")
		var before socketio.Offset
		for i, want := range []delivery{{"/", "r1", string(entry("/", "r1", "one"))}, {"/", "", string(entry("/", "", "two"))}} {
			got := n.delivered()[i]
			o, ok := socketio.EntryOf([]byte(got.payload))
			if !ok || o.Epoch != epoch {
				t.Fatalf("message %d has the position %v, the epoch is %s", i, o, epoch)
			}
			if got.room != want.room || got.payload != string(socketio.SetEntry(nil, []byte(want.payload), o)) {
				t.Errorf("message %d is %q on %q", i, got.payload, got.room)
			}
			if i > 0 && !o.After(before) {
				t.Errorf("%v does not follow %v", o, before)
			}
			before = o
			page := b.do(t, "XRANGE", "socket.io-journal#/#", o.String()[9:], o.String()[9:])
			entries, err := page.AsXRange()
			if err != nil || len(entries) != 1 || entries[0].FieldValues["m"] != want.payload {
				t.Errorf("the journal has %v, %v", entries, err)
			}
		}
		if got := n.delivered()[2].payload; got != "plain" {
			t.Errorf("the plain message is %q", got)
		}
	})
}

func TestPublishRefusesAPayloadWithoutPlace(t *testing.T) {
	n := inProcess(t).open(t, "nodeAAAA", recovering)
	for _, payload := range []string{"", "x"} {
		if err := n.Bus().Publish(socketio.Publication{Namespace: "/", Payload: []byte(payload), Journal: true}); err == nil {
			t.Errorf("%q was taken", payload)
		}
	}
}

// Without Recovery nothing is journalled, and the payload stays as it is.
func TestJournalOff(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", nil)
	if err := await(t, "done", n.journalled(t, "/", "", "one")); err != nil {
		t.Fatal(err)
	}
	expect(t, n, delivery{"/", "", string(entry("/", "", "one"))})
	if got := b.number(t, "EXISTS", "socket.io-journal#/#", "socket.io-journal"); got != 0 {
		t.Error("there is a journal")
	}
}

// The same batch again is the same answer and no message.
func TestRepeatedBatch(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.start(t, "nodeAAAA", recovering)
		c, _ := n.link.get()
		epoch, err := n.journal.bind(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		const wrong = "socket.io-once#wrong" // a key that nodes may use, for something else
		try := func(number uint64, epoch string, texts ...string) reply {
			var batch []message
			for _, text := range texts {
				m := message{channel: n.bus.channels.Broadcast("/"), payload: entry("/", "", text), stream: n.journal.streamKey("/")}
				if text == "bad" {
					m.stream = wrong
				}
				batch = append(batch, m)
			}
			keys, args := n.bus.batchCall(&numbered{n: number, epoch: epoch}, batch)
			return readReply(n.journal.call(t.Context(), c, metrics.JournalPublish, keys, args))
		}
		b.do(t, "SET", wrong, "no stream")
		for _, step := range []struct {
			n     uint64
			epoch string
			texts []string
			want  replyStatus
		}{
			{5, epoch, []string{"a", "b"}, replyOK}, // nothing known: any number
			{5, epoch, []string{"a", "b"}, replyOK},
			{7, epoch, []string{"x"}, replyOrder},
			{4, epoch, []string{"x"}, replyOrder},
			{6, "AAAAAAAA", []string{"x"}, replyEpoch},
			{6, epoch, []string{"c", "bad", "d"}, replyOK},
			{6, epoch, []string{"c", "bad", "d"}, replyOK},
		} {
			r := try(step.n, step.epoch, step.texts...)
			if r.status != step.want {
				t.Errorf("batch %d of %q: status %d (%v), want %d", step.n, step.epoch, r.status, r.err, step.want)
			}
			if slices.Contains(step.texts, "bad") && !slices.Equal(r.failed, []int{1}) {
				t.Errorf("failed are %v, want the second only", r.failed)
			}
			if r.status == replyOrder && r.number != 5 {
				t.Errorf("the last is %d, want 5", r.number)
			}
		}
		expectTexts(t, n, "a", "b", "c", "d")
		if got := b.stream(t, "/"); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
			t.Errorf("the journal is %q", got)
		}
	})
}

// What is published once is published once, whoever says it and how often.
func TestPublishOnce(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.start(t, "nodeAAAA", recovering)
		for i, m := range []struct{ text, once string }{{"a", "u#1"}, {"b", "u#1"}, {"c", "v#1"}, {"d", ""}, {"e", "u#2"}, {"f", "v#1"}} {
			done, c := outcome()
			p := socketio.Publication{Namespace: "/", Payload: entry("/", "", m.text), Journal: i%2 == 0, Once: m.once, Done: done}
			if err := n.Bus().Publish(p); err != nil {
				t.Fatal(err)
			}
			if err := await(t, "done", c); err != nil {
				t.Error(err)
			}
		}
		expectTexts(t, n, "a", "c", "d", "e")
		if ttl := b.number(t, "TTL", "socket.io-once#u#1"); ttl < 200 || ttl > 300 {
			t.Errorf("it is remembered for %d s", ttl)
		}
	})
}

// Another message than the first under its name is refused and not published, alone
// or in a batch, and also when the batch is sent again.
func TestPublishOnceConflict(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.start(t, "nodeAAAA", recovering)
		var outcomes []<-chan error
		for i, m := range []struct{ text, once, digest string }{
			{"a", "k1", "A"}, {"b", "k1", "A"}, {"c", "k1", "C"}, {"d", "k1", ""}, {"e", "k2", "C"}, {"f", "k2", "F"}, {"g", "", "G"},
		} {
			done, c := outcome()
			outcomes = append(outcomes, c)
			p := socketio.Publication{Namespace: "/", Payload: entry("/", "", m.text), Journal: i%2 == 0, Once: m.once, Digest: m.digest, Done: done}
			if err := n.Bus().Publish(p); err != nil {
				t.Fatal(err)
			}
		}
		for i, c := range outcomes {
			if err, conflict := await(t, "done", c), i == 2 || i == 5; errors.Is(err, ErrConflict) != conflict || !conflict && err != nil {
				t.Errorf("message %d: %v", i, err)
			}
		}
		expectTexts(t, n, "a", "e", "g")
		if got := testutil.ToFloat64(n.metrics.Drops[metrics.DropConflict]); got != 2 {
			t.Errorf("%v conflicts are counted", got)
		}
		c, _ := n.link.get()
		epoch, err := n.journal.bind(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		batch := []message{
			{channel: "c", payload: entry("/", "", "x"), once: n.journal.onceKey("k3"), digest: "X"},
			{channel: "c", payload: entry("/", "", "y"), once: n.journal.onceKey("k2"), digest: "Y"},
			{channel: "c", payload: entry("/", "", "z"), once: n.journal.onceKey("k3"), digest: "Z"},
		}
		for range 2 {
			keys, args := n.bus.batchCall(&numbered{n: n.bus.number + 1, epoch: epoch}, batch)
			r := readReply(n.journal.call(t.Context(), c, metrics.JournalPublish, keys, args))
			if r.status != replyOK || len(r.failed) != 0 || !slices.Equal(r.other, []int{1, 2}) {
				t.Errorf("the batch: %+v", r)
			}
		}
	})
}

// A message that Redis refuses fails alone.
func TestRefusedMessageFailsAlone(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", recovering)
	n.Bus().Open("/bad")
	eventually(t, "the namespace is open", n.Ready)
	if err := await(t, "warm", n.journalled(t, "/", "", "warm")); err != nil {
		t.Fatal(err)
	}
	b.do(t, "SET", "socket.io-journal#/bad#", "no stream")
	good, bad := n.journalled(t, "/", "", "good"), n.journalled(t, "/bad", "", "bad")
	if err := await(t, "good", good); err != nil {
		t.Error(err)
	}
	if err := await(t, "bad", bad); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("the bad one: %v", err)
	}
	expectTexts(t, n, "warm", "good")
}

func TestBatchVerdicts(t *testing.T) {
	type try struct {
		r    reply
		want verdict
	}
	for name, c := range map[string]struct {
		tries []try
		n     uint64 // afterwards, from 5
	}{
		"published":             {[]try{{reply{status: replyOK}, batchPublished}}, 5},
		"lost, then known":      {[]try{{reply{status: replyLost}, batchAgain}, {reply{status: replyOK}, batchPublished}}, 5},
		"other epoch":           {[]try{{reply{status: replyEpoch}, batchRebind}, {reply{status: replyOK}, batchPublished}}, 5},
		"lost, other epoch":     {[]try{{reply{status: replyLost}, batchAgain}, {reply{status: replyEpoch}, batchUnknown}}, 5},
		"order":                 {[]try{{reply{status: replyOrder, number: 9}, batchAgain}, {reply{status: replyOK}, batchPublished}}, 10},
		"lost, order":           {[]try{{reply{status: replyLost}, batchAgain}, {reply{status: replyOrder, number: 9}, batchUnknown}}, 9},
		"error":                 {[]try{{reply{status: replyError}, batchRefused}}, 5},
		"lost, error":           {[]try{{reply{status: replyLost}, batchAgain}, {reply{status: replyError}, batchAgain}, {reply{status: replyOK}, batchPublished}}, 5},
		"lost, refused":         {[]try{{reply{status: replyLost}, batchAgain}, {reply{status: replyRefused}, batchRefused}}, 5},
		"unsent":                {[]try{{reply{status: replyUnsent}, batchAgain}, {reply{status: replyError}, batchRefused}}, 5},
		"unsent after a loss":   {[]try{{reply{status: replyLost}, batchAgain}, {reply{status: replyUnsent}, batchAgain}, {reply{status: replyEpoch}, batchUnknown}}, 5},
		"other epoch, lost too": {[]try{{reply{status: replyEpoch}, batchRebind}, {reply{status: replyLost}, batchAgain}, {reply{status: replyEpoch}, batchUnknown}}, 5},
	} {
		s := numbered{n: 5}
		for i, try := range c.tries {
			if got := s.judge(try.r); got != try.want {
				t.Errorf("%s: verdict %d after try %d, want %d", name, got, i, try.want)
			}
		}
		if s.n != c.n {
			t.Errorf("%s: number %d, want %d", name, s.n, c.n)
		}
	}
	s := numbered{}
	for _, step := range []struct {
		epoch     string
		uncertain bool
		want      bool
	}{{"A", false, true}, {"B", false, true}, {"B", true, true}, {"C", true, false}, {"B", true, true}} {
		s.uncertain = step.uncertain
		if got := s.bound(step.epoch); got != step.want {
			t.Errorf("bound(%s, uncertain %v) is %v", step.epoch, step.uncertain, got)
		}
	}
}

func TestQueueNext(t *testing.T) {
	p, j := message{payload: []byte("p")}, message{payload: []byte("j"), stream: "s"}
	once, big := message{payload: []byte("o"), once: "k"}, message{payload: make([]byte, numberedBytes+1), stream: "s"}
	repeat := slices.Repeat[[]message]
	for name, c := range map[string]struct {
		in   []message
		want []int // lengths of the batches, negative if not numbered
	}{
		"plain":          {repeat([]message{p}, 1500), []int{-1000, -500}},
		"journalled":     {repeat([]message{j}, 300), []int{256, 44}},
		"mixed":          {[]message{p, p, j, p, once}, []int{5}},
		"plain, then":    {append(repeat([]message{p}, 400), j, p), []int{-400, 2}},
		"then plain":     {append([]message{j}, repeat([]message{p}, 400)...), []int{256, -145}},
		"large":          {[]message{big, j, big, p}, []int{1, 1, 1, -1}},
		"once":           {[]message{once}, []int{1}},
		"half, then big": {[]message{{payload: make([]byte, numberedBytes/2), stream: "s"}, {payload: make([]byte, numberedBytes/2+1), stream: "s"}}, []int{1, 1}},
	} {
		q := queue{maxItems: 10000, maxBytes: 1 << 30}
		for _, m := range c.in {
			q.add(m)
		}
		var got []int
		for q.len() > 0 {
			batch, numbered := q.next(nil)
			if numbered {
				got = append(got, len(batch))
			} else {
				got = append(got, -len(batch))
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: batches of %v, want %v", name, got, c.want)
		}
	}
}
