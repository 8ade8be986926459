package metrics

import "github.com/prometheus/client_golang/prometheus"

// Auth names how the question who a client is was answered, of sockets that
// connect or come back and of tokens that take another's place. The set is closed:
// every value is a label of edge_authentications_total, and all but the first are
// the codes that clients are told.
type Auth uint8

// Results of authentications.
const (
	AuthAccepted        Auth = iota
	AuthTokenMissing         // there is none
	AuthTokenInvalid         // malformed, not signed by a known key, not valid yet, for others, or with claims that cannot be understood
	AuthTokenExpired         // exp is over
	AuthUserInvalid          // the user id cannot be one
	AuthUserMismatch         // the new token of a socket is another user's
	AuthKeysUnavailable      // keys could not be loaded: temporary
	AuthBusy                 // too many tokens wait to be verified: temporary
	authCount
)

var authNames = [authCount]string{
	"accepted", "token_missing", "token_invalid", "token_expired", "user_invalid", "user_mismatch", "keys_unavailable", "busy",
}

// String is the label value, and the code.
func (a Auth) String() string { return authNames[a] }

// KeyLoad names how loading the keys of one source went. The set is closed.
type KeyLoad uint8

// Results of key loads.
const (
	KeyLoadDone KeyLoad = iota
	KeyLoadFailed
	keyLoadCount
)

var keyLoadNames = [keyLoadCount]string{"ok", "failed"}

// String is the label value.
func (k KeyLoad) String() string { return keyLoadNames[k] }

// authenticating is what is measured of AUTH=jwt and AUTH=none.
type authenticating struct {
	Auths    [authCount]prometheus.Counter
	KeyLoads [keyLoadCount]prometheus.Counter
	Keys     prometheus.Gauge // keys that tokens are verified with
	KeysTime prometheus.Gauge // Unix seconds at which keys were loaded last
	Expiring prometheus.Gauge // sockets whose token expires
}

// catalogueAuth is the part of New that is about authentication.
func (m *Metrics) catalogueAuth(r registrar) {
	fill(m.Auths[:], r.counterVec("edge_authentications_total", "Sockets that connected or came back, and tokens that took another's place, by how they were authenticated.", "result"), func(i int) string { return Auth(i).String() })
	fill(m.KeyLoads[:], r.counterVec("edge_auth_key_loads_total", "Times that keys for tokens were loaded, by how it went.", "result"), func(i int) string { return KeyLoad(i).String() })
	m.Keys = r.gauge("edge_auth_keys", "Keys that tokens are verified with.")
	m.KeysTime = r.gauge("edge_auth_keys_loaded_timestamp_seconds", "When keys were loaded last; 0 if never.")
	m.Expiring = r.gauge("edge_auth_expiring_sockets", "Sockets whose token expires.")
}
