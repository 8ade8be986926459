package state

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// embedded is the Redis a node starts inside itself when it has no URL. It
// listens nowhere: clients reach it over in-memory pipes.
//
// It lacks CLIENT TRACKING, CLIENT ID and CLIENT KILL, so there is no
// client-side caching and no killing of old connections; and it keeps order
// within channel subscriptions and within pattern subscriptions but not
// between them, so that rooms are subscribed by pattern only.
type embedded struct {
	redis *miniredis.Miniredis
	ended chan struct{}
	clock sync.WaitGroup
}

// ttlTick is how often keys of the in-process Redis may expire. Its own
// ClockTTL looks at every key with every command instead.
const ttlTick = 10 * time.Second

func startEmbedded() *embedded {
	e := &embedded{redis: miniredis.NewMiniRedis(), ended: make(chan struct{})}
	e.clock.Go(func() {
		tick := time.NewTicker(ttlTick)
		defer tick.Stop()
		for {
			select {
			case <-e.ended:
				return
			case <-tick.C:
				e.redis.FastForward(ttlTick)
			}
		}
	})
	return e
}

func (e *embedded) options() redisOptions {
	return redisOptions{
		name:  "in-process",
		basic: true,
		dial:  func(context.Context, *net.Dialer, *tls.Config) (net.Conn, error) { return e.redis.Dial() },
	}
}

// stop ends the server; its data is gone. Once only.
func (e *embedded) stop() {
	close(e.ended)
	e.clock.Wait()
	e.redis.Close()
}
