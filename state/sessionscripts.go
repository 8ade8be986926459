package state

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/redis/rueidis"
)

// The scripts of sessions. Their contracts are in the files.
var (
	//go:embed scripts/session_common.lua
	sessionCommonLua string
	//go:embed scripts/session_create.lua
	sessionCreateLua string
	//go:embed scripts/session_save.lua
	sessionSaveLua string
	//go:embed scripts/session_close.lua
	sessionCloseLua string
	//go:embed scripts/session_claim.lua
	sessionClaimLua string
	//go:embed scripts/session_move.lua
	sessionMoveLua string
	//go:embed scripts/session_bar.lua
	sessionBarLua string
	//go:embed scripts/session_barred.lua
	sessionBarredLua string
)

const (
	sessionCreate = iota
	sessionSave
	sessionClose
	sessionClaim
	sessionMove
	sessionBar
	sessionBarred
	sessionScriptCount
)

type sessionScripts [sessionScriptCount]script

func newSessionScripts() sessionScripts {
	return sessionScripts{
		sessionCreate: newScript(tailLua, sessionCommonLua, sessionCreateLua),
		sessionSave:   newScript(tailLua, sessionCommonLua, sessionSaveLua),
		sessionClose:  newScript(tailLua, sessionCommonLua, sessionCloseLua),
		sessionClaim:  newScript(tailLua, sessionCommonLua, sessionClaimLua),
		sessionMove:   newScript(tailLua, sessionCommonLua, sessionMoveLua),
		sessionBar:    newScript(sessionBarLua),
		sessionBarred: newScript(sessionCommonLua, sessionBarredLua),
	}
}

// load makes Redis know the scripts.
func (s *sessionScripts) load(ctx context.Context, c rueidis.CommandClient) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var load rueidis.Commands
	for i := range s {
		load = append(load, c.B().ScriptLoad().Script(s[i].source).Build())
	}
	for _, r := range c.DoMulti(ctx, load...) {
		if err := r.Error(); err != nil {
			return fmt.Errorf("load the scripts of sessions: %w", err)
		}
	}
	return nil
}

// call builds one EVALSHA.
func (s *sessionScripts) call(c rueidis.CommandClient, which int, keys, args []string) rueidis.Completed {
	return c.B().Evalsha().Sha1(s[which].sha).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
}
