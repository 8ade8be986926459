package state

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// Bounds of one read of a journal.
const (
	pageEntries = 1000
	pageBytes   = 4 << 20 // that the next page should not exceed, judged by the one before
)

// page is a part of a journal, as it was at one moment.
type page struct {
	epoch   string // "" if Redis has none
	entries []socketio.JournalEntry
	end     bool            // there were no more
	gone    socketio.Offset // everything up to here was removed, zero if nothing was
	cut     uint64          // everything of that millisecond or later is still there
}

// read returns up to count entries of a stream behind a position. What is gone
// was looked up after the entries were read: if it is not after the position,
// nothing is missing between them.
func (j *journal) read(ctx context.Context, c *clients, stream string, after socketio.Offset, count int) (page, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	started, b := time.Now(), c.journal.B()
	start := string(after.AppendID([]byte{'('}))
	results := c.journal.DoMulti(ctx,
		b.Xrange().Key(stream).Start(start).End("+").Count(int64(count)).Build(),
		b.Hmget().Key(j.hashKey()).Field("epoch", j.goneField(stream), j.cutField(stream)).Build())
	j.metrics.Journal[metrics.JournalRead].Observe(time.Since(started).Seconds())
	entries, err := results[0].AsXRange()
	if err != nil {
		return page{}, fmt.Errorf("read journal: %w", err)
	}
	about, err := texts(results[1], "read journal", 3) // a missing field is ""
	if err != nil {
		return page{}, err
	}
	p := page{epoch: about[0], end: len(entries) < count, entries: make([]socketio.JournalEntry, len(entries))}
	for i, e := range entries {
		o, ok := socketio.ParseEntryID(e.ID)
		payload := e.FieldValues["m"]
		if !ok || payload == "" {
			return page{}, fmt.Errorf("%w: %s has an entry %q that is none", errAnswer, stream, e.ID)
		}
		o.Epoch = p.epoch
		p.entries[i] = socketio.JournalEntry{Offset: o, Payload: readOnly(payload)}
	}
	if about[1] != "" {
		p.gone, _ = socketio.ParseEntryID(about[1])
		p.gone.Epoch = p.epoch
	}
	p.cut, _ = strconv.ParseUint(about[2], 10, 64) // a missing field: nothing was cut
	return p, nil
}

// nextCount is how many entries the page after p should have.
func nextCount(p page) int {
	bytes := 0
	for i := range p.entries {
		bytes += len(p.entries[i].Payload)
	}
	if len(p.entries) == 0 {
		return pageEntries
	}
	return max(1, min(pageEntries, pageBytes*len(p.entries)/max(1, bytes)))
}
