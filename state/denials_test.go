package state

import "testing"

// TestKeysInTheLog: a key of the log does not open anything.
func TestKeysInTheLog(t *testing.T) {
	for key, want := range map[string]string{
		"socket.io-session#-JCzm-g13AhJc4yTMor-": "socket.io-session#*",
		"other-session#a-session#b":              "other-session#*",
		"socket.io-journal#/#":                   "socket.io-journal#/#",
		"room:a:users":                           "room:a:users",
		"":                                       "",
	} {
		if got := withoutID(key); got != want {
			t.Errorf("%q is logged as %q, want %q", key, got, want)
		}
	}
}
