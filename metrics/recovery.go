package metrics

// Recovery names how a client's wish to have its socket back ended. The set is
// closed: every value is a label of edge_recoveries_total.
type Recovery uint8

// Results of recoveries.
const (
	RecoveryComplete     Recovery = iota // the client got its socket back and all it missed
	RecoveryUnknown                      // no such session: it ended for good, or too long ago
	RecoveryUser                         // the session is another user's
	RecoveryToken                        // the application refused the credentials
	RecoveryEpoch                        // Redis was restarted, emptied or failed over since
	RecoveryExpired                      // the time for the return is over
	RecoveryVoid                         // messages for it were lost on its node
	RecoveryIncomplete                   // the journal does not reach back far enough
	RecoveryTooMuch                      // more was missed than is replayed
	RecoveryMalformed                    // pid or offset cannot be one
	RecoveryUnavailable                  // Redis did not answer in time
	RecoveryAbandoned                    // the client went away before it was answered
	RecoveryDisconnected                 // the user or the socket was disconnected on purpose since
	recoveryCount
)

var recoveryNames = [recoveryCount]string{
	"complete", "unknown", "user", "token", "epoch", "expired", "void", "incomplete", "too_much", "malformed",
	"unavailable", "abandoned", "disconnected",
}

// String is the label value.
func (r Recovery) String() string { return recoveryNames[r] }
