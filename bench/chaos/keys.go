package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/rueidis"
)

// lookTimeout bounds one look at the keys, so that a Redis that hangs is noticed.
const lookTimeout = 3 * time.Second

// Reader reads the three keys as any other service would, straight from Redis.
type Reader struct {
	client rueidis.Client
	roster *Roster
}

// NewReader connects to the Redis at host:port.
func NewReader(addr string, roster *Roster) (*Reader, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{addr}, DisableCache: true, ForceSingleClient: true, DisableRetry: true,
		ConnWriteTimeout: lookTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("chaos: Redis at %s: %w", addr, err)
	}
	return &Reader{client, roster}, nil
}

// Close ends the connection.
func (r *Reader) Close() { r.client.Close() }

// mgetChunk is how many keys one MGET reads: enough to be cheap, too few to hold up the nodes.
const mgetChunk = 500

// Read reads all keys in one pipeline. It is no snapshot: others write in between.
func (r *Reader) Read(ctx context.Context) (*Keys, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	commands := rueidis.Commands{r.client.B().Smembers().Key("presence:online").Build()}
	for _, room := range r.roster.Rooms {
		commands = append(commands, r.client.B().Smembers().Key("room:"+room+":users").Build())
	}
	sets := len(commands)
	users := r.roster.Users
	for from := 0; from < len(users); from += mgetChunk {
		var keys []string
		for _, user := range users[from:min(from+mgetChunk, len(users))] {
			keys = append(keys, "user:"+user+":socket")
		}
		commands = append(commands, r.client.B().Mget().Key(keys...).Build())
	}
	results := r.client.DoMulti(ctx, commands...)
	k := &Keys{Sockets: make([]string, 0, len(users))}
	for i := range sets {
		members, err := results[i].AsStrSlice()
		if err != nil {
			return nil, fmt.Errorf("chaos: reading a set: %w", err)
		}
		if i == 0 {
			k.Online = members
		} else {
			k.Rooms = append(k.Rooms, members)
		}
	}
	for _, result := range results[sets:] {
		values, err := result.ToArray()
		if err != nil {
			return nil, fmt.Errorf("chaos: reading socket ids: %w", err)
		}
		for _, v := range values {
			sid, err := v.ToString()
			if err != nil && !rueidis.IsRedisNil(err) {
				return nil, fmt.Errorf("chaos: reading a socket id: %w", err)
			}
			k.Sockets = append(k.Sockets, sid)
		}
	}
	return k, nil
}

// Do runs a command by its words and returns the answer as text.
func (r *Reader) Do(ctx context.Context, words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	answer, err := r.client.Do(ctx, r.client.B().Arbitrary(words...).Build()).ToAny()
	if err != nil {
		return "", fmt.Errorf("chaos: %v: %w", words, err)
	}
	return fmt.Sprint(answer), nil
}
