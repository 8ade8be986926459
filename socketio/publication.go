package socketio

import "errors"

// ErrOnceConflict says that another message than this one was published under its Publication.Once.
var ErrOnceConflict = errors.New("socketio: another message was published under that name")

// Publication is one adapter message on its way to all nodes.
type Publication struct {
	Namespace, Room string // Room "" is the namespace's base channel
	Payload         []byte // must not change until Done
	Journal         bool   // to be kept for recovery: Payload was made with Broadcast.Journal
	Once            string // not "": of several publications with the same text within 5 minutes only the first counts
	// Digest, with Once, tells messages apart: one with another digest than the first's is refused with ErrOnceConflict.
	Digest string
	Sent   func() // called just before it is written; may be nil
	// Done is called once, with nil when Redis accepted it, else with why not; may be nil.
	Done func(error)
}
