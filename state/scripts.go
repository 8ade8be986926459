package state

import (
	"context"
	"crypto/sha1" // Redis names scripts by it
	_ "embed"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

// The presence scripts. Their contracts are in the files.
var (
	//go:embed scripts/prelude.lua
	preludeLua string
	//go:embed scripts/settle.lua
	settleLua string
	//go:embed scripts/hold.lua
	holdLua string
	//go:embed scripts/assert.lua
	assertLua string
	//go:embed scripts/release.lua
	releaseLua string
	//go:embed scripts/attach.lua
	attachLua string
	//go:embed scripts/detach.lua
	detachLua string
	//go:embed scripts/reap_user.lua
	reapUserLua string
	//go:embed scripts/heartbeat.lua
	heartbeatLua string
	//go:embed scripts/claim.lua
	claimLua string
	//go:embed scripts/nominate.lua
	nominateLua string
	//go:embed scripts/snapshot.lua
	snapshotLua string
	//go:embed scripts/index.lua
	indexLua string
)

// script is a Lua script and the name Redis gives it.
type script struct{ source, sha string }

// newScript makes a presence script.
func newScript(parts ...string) script { return hashed(preludeLua + strings.Join(parts, "")) }

func hashed(source string) script {
	sum := sha1.Sum([]byte(source))
	return script{source: source, sha: hex.EncodeToString(sum[:])}
}

// scripts are the presence scripts by operation.
type scripts [metrics.PresenceAudit]script

func newScripts() scripts {
	return scripts{
		metrics.PresenceHold:      newScript(holdLua),
		metrics.PresenceAssert:    newScript(assertLua),
		metrics.PresenceRelease:   newScript(releaseLua),
		metrics.PresenceAttach:    newScript(attachLua),
		metrics.PresenceDetach:    newScript(settleLua, detachLua),
		metrics.PresenceReapUser:  newScript(settleLua, reapUserLua),
		metrics.PresenceHeartbeat: newScript(heartbeatLua),
		metrics.PresenceClaim:     newScript(claimLua),
		metrics.PresenceNominate:  newScript(nominateLua),
		metrics.PresenceSnapshot:  newScript(snapshotLua),
		metrics.PresenceIndex:     newScript(indexLua),
	}
}

// load makes Redis know the scripts.
func (s *scripts) load(ctx context.Context, c rueidis.CommandClient) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var load rueidis.Commands
	for i := range s {
		load = append(load, c.B().ScriptLoad().Script(s[i].source).Build())
	}
	for i, r := range c.DoMulti(ctx, load...) {
		if err := r.Error(); err != nil {
			return fmt.Errorf("load script %s: %w", metrics.PresenceOp(i), err)
		}
	}
	return nil
}

// call builds one EVALSHA.
func (s *scripts) call(c rueidis.CommandClient, op metrics.PresenceOp, keys, args []string) rueidis.Completed {
	return c.B().Evalsha().Sha1(s[op].sha).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
}
