package state

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"sync"
)

// journal is a stand-in.
type journal struct {
	key   string
	mu    sync.Mutex
	gen   uint64
	epoch string
}

func (j *journal) hashKey() string            { return j.key + "-journal" }
func (j *journal) nodesKey() string           { return j.key + "-nodes" }
func (j *journal) streamKey(ns string) string { return j.key + "-journal#" + ns + "#" }

func (j *journal) epochOf(c *clients) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if c.gen != j.gen {
		return ""
	}
	return j.epoch
}

func (j *journal) bind(ctx context.Context, c *clients) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var b [6]byte
	_, _ = rand.Read(b[:])
	fresh := base64.RawURLEncoding.EncodeToString(b[:])
	epoch, err := c.cmd.Do(ctx, c.cmd.B().Eval().Script(`
local e, r = redis.call('HGET', KEYS[1], 'epoch'), redis.call('HGET', KEYS[1], 'run')
if e and r == ARGV[2] then return e end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'run', ARGV[2])
return ARGV[1]`).Numkeys(1).Key(j.hashKey()).Arg(fresh, c.run).Build()).ToString()
	if err == nil {
		j.mu.Lock()
		j.gen, j.epoch = c.gen, epoch
		j.mu.Unlock()
	}
	return epoch, err
}
