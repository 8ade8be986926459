package state

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/stellara/edge/metrics"
)

const (
	trimInterval = 10 * time.Second
	trimEntries  = 10_000 // of one stream at a time: Redis does nothing else meanwhile
	sweepEvery   = 6      // trims: nodes that are gone are looked for more seldom
)

// trimLoop keeps the journals short until ctx ends. Every node does; whoever
// comes first has the work.
func (b *Bus) trimLoop(ctx context.Context) {
	j := b.journal
	for round := 0; ; round++ {
		t := time.NewTimer(trimInterval/2 + rand.N(trimInterval))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		c, _ := b.link.get()
		if c == nil {
			continue
		}
		err := j.trim(ctx, c, round%sweepEvery == 0)
		if err != nil && ctx.Err() == nil {
			b.log.Debug("the journal is not trimmed", "error", err)
		}
	}
}

// trim removes what is too old or too much of all streams; with sweep also what
// nodes left that are gone.
func (j *journal) trim(ctx context.Context, c *clients, sweep bool) error {
	for {
		args := []string{strconv.FormatInt(j.retention.Milliseconds(), 10), strconv.FormatInt(j.max, 10), strconv.Itoa(trimEntries), "0"}
		if sweep {
			args[3] = "1"
		}
		keys := []string{j.hashKey(), j.streamsKey(), j.nodesKey()}
		removed, err := j.call(ctx, c, metrics.JournalTrim, keys, args).AsInt64()
		if err != nil || removed < trimEntries/2 { // Redis removes whole nodes of a stream, so that a full round may be a bit less
			return err
		}
		sweep = false
	}
}
