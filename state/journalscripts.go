package state

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

// The scripts of the journal. Their contracts are in the files.
var (
	//go:embed scripts/tail.lua
	tailLua string
	//go:embed scripts/publish.lua
	publishLua string
	//go:embed scripts/bind.lua
	bindLua string
	//go:embed scripts/trim.lua
	trimLua string
	//go:embed scripts/probe.lua
	probeLua string
)

// journalScripts are the scripts of the journal and of the sessions by operation.
type journalScripts [metrics.JournalRead]script

func newJournalScripts() journalScripts {
	return journalScripts{
		metrics.JournalPublish: hashed(publishLua),
		metrics.JournalBind:    hashed(tailLua + bindLua),
		metrics.JournalTrim:    hashed(trimLua),
		metrics.JournalProbe:   hashed(tailLua + probeLua),
	}
}

// call runs one script and tells a Redis that does not know it. It may be called
// from any goroutine.
func (j *journal) call(ctx context.Context, c *clients, op metrics.JournalOp, keys, args []string) rueidis.RedisResult {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for try := 0; ; try++ {
		started := time.Now()
		r := c.cmd.Do(ctx, c.cmd.B().Evalsha().Sha1(j.scripts[op].sha).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build())
		j.metrics.Journal[op].Observe(time.Since(started).Seconds())
		if err := r.Error(); try > 0 || err == nil || !strings.HasPrefix(err.Error(), "NOSCRIPT") {
			return r
		}
		_ = c.cmd.Do(ctx, c.cmd.B().ScriptLoad().Script(j.scripts[op].source).Build()) // the next try says what is wrong
	}
}

// texts reads the answer of a script that is a list of at least n texts.
func texts(r rueidis.RedisResult, what string, n int) ([]string, error) {
	list, err := r.AsStrSlice()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if len(list) < n {
		return nil, answered(what, len(list), n, nil)
	}
	return list, nil
}
