package socketio

// Publication is a message on its way to the bus.
type Publication struct {
	Namespace string
	Room      string // whose channel it is published on; "" is the base channel of the namespace
	Payload   []byte // as AppendBroadcast wrote it; must not change until Done
	// Journal asks for the message to be kept in the journal of the namespace, where that is on. Payload was then made
	// with Broadcast.Journal: it ends with the nil that the position takes the place of.
	Journal bool
	// Once, if it is not "", names the message: "<user>#<id>". Of all messages of one name within five minutes one is
	// published; the others succeed and are not.
	Once string
	// Sent is called just before the message is handed to Redis for the first time, Done exactly once: with nil when
	// Redis has the message, else with the reason why it has not, or why that is not known. Both must return at once and
	// may be nil.
	Sent func()
	Done func(error)
}
