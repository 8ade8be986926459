package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

const (
	unknownPatience = 10 * time.Second // how long a message whose outcome is unknown waits for the answer
	// abandonAfter ends the tries of a batch of unknown outcome, well before its
	// number is forgotten in Redis (trim.lua): it would be appended again.
	abandonAfter = 30 * time.Minute
)

// A verdict is what to do with a numbered batch after an answer.
type verdict uint8

const (
	batchPublished verdict = iota // Redis has it
	batchAgain                    // send the same once more
	batchRebind                   // the same under the present epoch
	batchRefused                  // it was not and will not be published
	batchUnknown                  // it may have been published; that can no more be found out
)

// reply is what came of one try.
type reply struct {
	status replyStatus
	number uint64 // with replyOrder: the last batch Redis has
	failed []int  // with replyOK: indexes of messages that Redis refused
	other  []int  // with replyOK: indexes of those whose names others were published under
	err    error  // why, where there is a reason
}

type replyStatus uint8

const (
	replyOK replyStatus = iota
	replyEpoch
	replyOrder
	replyRefused // by the script: it ran, and did nothing
	replyError   // by Redis: the script did not run
	replyUnsent
	replyLost // no answer: it may have run, or may still
)

// numbered is the numbering of a node's batches, of which one is under way at a
// time: pure state. A batch is uncertain from its first lost answer on. Only an
// answer of the script then tells what became of it, for Redis runs it once
// however often it is sent.
type numbered struct {
	n         uint64 // of the batch
	epoch     string // in which it was sent
	uncertain bool
}

// bound says in which epoch the next try would be. It reports false for an
// uncertain batch that was sent in another: what became of it is lost with that.
func (s *numbered) bound(epoch string) bool {
	if s.uncertain && s.epoch != epoch {
		return false
	}
	s.epoch = epoch
	return true
}

// judge takes the outcome of a try.
func (s *numbered) judge(r reply) verdict {
	switch r.status {
	case replyOK:
		return batchPublished
	case replyRefused: // the script looked: it is not the same as a batch that Redis has
		return batchRefused
	case replyEpoch:
		if s.uncertain {
			return batchUnknown
		}
		return batchRebind
	case replyOrder:
		// Redis lost numbers, or a batch that was given up has arrived or not.
		uncertain := s.uncertain
		s.n, s.uncertain = r.number+1, false
		if uncertain {
			s.n-- // the next batch is the next
			return batchUnknown
		}
		return batchAgain
	case replyError:
		if s.uncertain {
			return batchAgain
		}
		return batchRefused
	case replyLost:
		s.uncertain = true
	}
	return batchAgain
}

// sendNumbered sends a numbered batch until its outcome is known, and reports it.
func (b *Bus) sendNumbered(ctx context.Context, batch []message) {
	s := numbered{n: b.number + 1}
	started, sent := time.Now(), false
	var wait backoff
	for {
		batch = b.expireBatch(batch, s.uncertain)
		if len(batch) == 0 {
			return // all of them expired, none was sent
		}
		if s.uncertain && time.Since(started) > abandonAfter {
			b.settleAll(batch, ErrUnknown)
			return
		}
		c, changed := b.link.get()
		delay := expiryTick
		if c != nil {
			r, bound := b.try(ctx, c, &s, batch, sent)
			if !bound {
				b.settleAll(batch, ErrUnknown)
				return
			}
			sent = sent || r.status != replyUnsent
			over, atOnce := b.conclude(ctx, c, &s, batch, r)
			if over {
				return
			}
			if atOnce {
				continue
			}
			delay, changed = wait.next(), nil
		}
		if !b.pause(ctx, delay, changed) {
			b.settleAll(batch, ended(s.uncertain))
			return
		}
	}
}

// conclude acts upon the outcome of a try: the batch is over, or it is to be sent
// again, at once or after a while.
func (b *Bus) conclude(ctx context.Context, c *clients, s *numbered, batch []message, r reply) (over, atOnce bool) {
	switch s.judge(r) {
	case batchPublished:
		b.number = s.n
		b.link.sign()
		b.settleBatch(batch, r)
		return true, false
	case batchRefused:
		b.settleAll(batch, fmt.Errorf("state: publish: %w", r.err))
		return true, false
	case batchUnknown:
		b.number = s.n
		b.settleAll(batch, ErrUnknown)
		return true, false
	case batchRebind:
		_, err := b.journal.rebind(ctx, c, s.epoch)
		return false, err == nil
	}
	if r.status == replyLost {
		b.link.suspect()
	}
	// Where nobody waits for it any more, and Redis does not tell, others shall go on.
	return r.status == replyError && settledAll(batch), r.status == replyOrder
}

// ended is the error of a batch whose bus has ended.
func ended(uncertain bool) error {
	if uncertain {
		return ErrUnknown
	}
	return ErrClosed
}

// try sends the batch once. bound is false if it must not be sent, see numbered.bound.
func (b *Bus) try(ctx context.Context, c *clients, s *numbered, batch []message, sent bool) (r reply, bound bool) {
	epoch := ""
	if b.journal.on {
		var err error
		if epoch, err = b.journal.bind(ctx, c); err != nil {
			if lostConnection(err) {
				b.link.suspect()
				return reply{status: replyUnsent}, true
			}
			return reply{status: replyError, err: err}, true
		}
	}
	if !s.bound(epoch) {
		return reply{}, false
	}
	for i := range batch {
		if !sent && batch[i].sent != nil {
			batch[i].sent()
		}
	}
	if s.uncertain {
		b.metrics.PublishRetries.Inc()
	}
	keys, args := b.batchCall(s, batch)
	r = readReply(b.journal.call(ctx, c, metrics.JournalPublish, keys, args))
	if r.status == replyRefused || len(r.failed) > 0 { // what the script was refused is in its answer
		b.link.options.denials.note(called{"EVALSHA", keys[0]}, r.err)
	}
	return r, true
}

// batchCall is the keys and arguments of publish.lua.
func (b *Bus) batchCall(s *numbered, batch []message) (keys, args []string) {
	j := b.journal
	keys = append(b.keys[:0], j.hashKey(), j.nodesKey(), j.streamsKey())
	args = append(b.args[:0], j.incarnation, strconv.FormatUint(s.n, 10), s.epoch)
	for i := range batch {
		m := &batch[i]
		index := 0
		if m.stream != "" {
			at := slices.Index(keys[3:], m.stream)
			if at < 0 {
				at = len(keys) - 3
				keys = append(keys, m.stream)
			}
			index = at + 1
		}
		args = append(args, strconv.Itoa(index), m.channel, rueidis.BinaryString(m.payload), m.once, m.digest)
	}
	b.keys, b.args = keys, args // whoever sends them has copied them
	return keys, args
}

// readReply reads an answer of publish.lua.
func readReply(r rueidis.RedisResult) reply {
	list, err := r.AsStrSlice()
	switch {
	case errors.Is(err, errNoMoreDials):
		return reply{status: replyUnsent}
	case lostConnection(err):
		return reply{status: replyLost, err: err}
	case err != nil:
		return reply{status: replyError, err: err}
	}
	list = append(list, "", "")
	switch list[0] {
	case "EPOCH":
		return reply{status: replyEpoch}
	case "ORDER":
		if n, err := strconv.ParseUint(list[1], 10, 64); err == nil {
			return reply{status: replyOrder, number: n}
		}
	case "REFUSED":
		return reply{status: replyRefused, err: errors.New(list[1])}
	case "OK":
		r := reply{status: replyOK, err: errors.New("redis refused the message")}
		if len(list) > 2 && list[2] != "" {
			r.err = errors.New(list[2])
		}
		for _, text := range strings.Fields(list[1]) {
			text, conflict := strings.CutSuffix(text, "c")
			switch i, err := strconv.Atoi(text); {
			case err != nil:
			case conflict:
				r.other = append(r.other, i)
			default:
				r.failed = append(r.failed, i)
			}
		}
		return r
	}
	return reply{status: replyError, err: fmt.Errorf("%w: PUBLISH script says %q", errAnswer, list[0])}
}

// expireBatch reports messages that waited too long. Those of an uncertain batch
// stay in it, for it must stay the same.
func (b *Bus) expireBatch(batch []message, uncertain bool) []message {
	now := time.Now()
	if uncertain {
		for i := range batch {
			if m := &batch[i]; now.Sub(m.called) > b.doubt {
				b.settle(m, ErrUnknown)
			}
		}
		return batch
	}
	return slices.DeleteFunc(batch, func(m message) bool {
		late := now.Sub(m.called) > b.patience
		if late {
			b.settle(&m, ErrUnavailable)
		}
		return late
	})
}

func (b *Bus) settleAll(batch []message, err error) {
	for i := range batch {
		b.settle(&batch[i], err)
	}
}

// settleBatch reports what became of each message of a batch that Redis has.
func (b *Bus) settleBatch(batch []message, r reply) {
	for i := range batch {
		var err error
		switch {
		case len(r.failed) > 0 && slices.Contains(r.failed, i):
			err = fmt.Errorf("state: publish: %w", r.err)
		case len(r.other) > 0 && slices.Contains(r.other, i):
			err = ErrConflict
		}
		b.settle(&batch[i], err)
	}
}

// settledAll reports whether everybody was told about the batch.
func settledAll(batch []message) bool {
	return !slices.ContainsFunc(batch, func(m message) bool { return !m.settled })
}

// pause waits while Redis cannot be asked, for d or until something changed, and
// fails what runs out of patience in the queue; false when ctx ended.
func (b *Bus) pause(ctx context.Context, d time.Duration, changed <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-t.C:
	}
	b.expire()
	return true
}
