package state

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/alicebob/miniredis/v2"
)

// embedded is the Redis a node starts inside itself when it has no URL. It
// listens nowhere: clients reach it over in-memory pipes.
//
// It lacks CLIENT TRACKING, CLIENT ID and CLIENT KILL, so there is no
// client-side caching and no killing of old connections; and it keeps order
// within channel subscriptions and within pattern subscriptions but not
// between them, so that rooms are subscribed by pattern only.
type embedded struct{ redis *miniredis.Miniredis }

func startEmbedded() *embedded {
	m := miniredis.NewMiniRedis()
	m.ClockTTL(true)
	return &embedded{redis: m}
}

func (e *embedded) options() redisOptions {
	return redisOptions{
		name:  "in-process",
		basic: true,
		dial:  func(context.Context, *net.Dialer, *tls.Config) (net.Conn, error) { return e.redis.Dial() },
	}
}

func (e *embedded) stop() { e.redis.Close() }
