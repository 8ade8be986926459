package state

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

// maxDenials bounds how many commands that Redis does not permit are named in the log.
const maxDenials = 64

// denials names in the log what Redis does not permit the node's user, each
// command once. Its methods may be called from any goroutine.
type denials struct {
	log     *slog.Logger
	metrics *metrics.Metrics

	mu    sync.Mutex // guards the rest
	named map[string]bool
}

func newDenials(log *slog.Logger, m *metrics.Metrics) *denials {
	return &denials{log: log, metrics: m, named: make(map[string]bool)}
}

// deniedTexts are how errors of Redis begin that say that its access control
// lists do not permit something: to the client, and to a script in Redis 7.0 and before.
// https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/
var deniedTexts = [...]string{"NOPERM", "ERR The user executing the script can't"}

// denied reports whether err is Redis's, or the text of an error that a script got, and says that the user lacks a right.
func denied(err error) bool {
	if err == nil {
		return false
	}
	said := err.Error()
	var answer *rueidis.RedisError
	if errors.As(err, &answer) {
		said = answer.Error()
	}
	for _, text := range deniedTexts {
		if strings.HasPrefix(said, text) {
			return true
		}
	}
	return false
}

// note takes the answer to a command.
func (d *denials) note(c called, err error) {
	if !denied(err) {
		return
	}
	d.metrics.RedisDenials.Inc()
	text, _, _ := strings.Cut(err.Error(), " script: ") // what follows differs with each script
	d.mu.Lock()
	known := d.named[c.command+text] || len(d.named) >= maxDenials
	if !known {
		d.named[c.command+text] = true
	}
	d.mu.Unlock()
	if !known {
		d.log.Error("redis does not permit what the node needs: its user lacks a right", "command", c.command, "key", withoutID(c.key), "error", err)
	}
}

// called is what a denial names of a command: the words before its arguments, and its first key or channel.
type called struct{ command, key string }

// withoutID is a key for the log: what names a session is the key to it, and the kind of the key says which right is missing.
func withoutID(key string) string {
	if kind, id, ok := strings.Cut(key, "-session#"); ok && id != "" {
		return kind + "-session#*"
	}
	return key
}

// describe takes it from a command's words, which rueidis uses again once it was sent.
func describe(words []string) (c called) {
	at := 1 // of the first key
	switch words[0] {
	case "CLIENT", "SCRIPT", "PUBSUB", "ACL":
		return called{command: strings.Join(words[:min(2, len(words))], " ")}
	case "EVALSHA", "EVALSHA_RO", "EVAL":
		at = 3
	}
	c.command = words[0]
	if at < len(words) {
		c.key = words[at]
	}
	return c
}

// Do is rueidis's, and names what was denied.
func (c *client) Do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	if c.denials == nil {
		return c.Client.Do(ctx, cmd)
	}
	what := describe(cmd.Commands())
	r := c.Client.Do(ctx, cmd)
	c.denials.note(what, r.Error())
	return r
}

// DoMulti is rueidis's, and names what was denied.
func (c *client) DoMulti(ctx context.Context, multi ...rueidis.Completed) []rueidis.RedisResult {
	if c.denials == nil {
		return c.Client.DoMulti(ctx, multi...)
	}
	var what [8]called // batches are of one kind: more need not be known
	for i, cmd := range multi[:min(len(multi), len(what))] {
		what[i] = describe(cmd.Commands())
	}
	results := c.Client.DoMulti(ctx, multi...)
	for i, r := range results {
		c.denials.note(what[min(i, len(what)-1)], r.Error())
	}
	return results
}

// DoMultiCache is rueidis's, and names what was denied.
func (c *client) DoMultiCache(ctx context.Context, multi ...rueidis.CacheableTTL) []rueidis.RedisResult {
	if c.denials == nil || len(multi) == 0 {
		return c.Client.DoMultiCache(ctx, multi...)
	}
	what := describe(multi[0].Cmd.Commands())
	results := c.Client.DoMultiCache(ctx, multi...)
	for _, r := range results {
		c.denials.note(what, r.Error())
	}
	return results
}

// DoCache is rueidis's, and names what was denied.
func (c *client) DoCache(ctx context.Context, cmd rueidis.Cacheable, ttl time.Duration) rueidis.RedisResult {
	if c.denials == nil {
		return c.Client.DoCache(ctx, cmd, ttl)
	}
	what := describe(cmd.Commands())
	r := c.Client.DoCache(ctx, cmd, ttl)
	c.denials.note(what, r.Error())
	return r
}
