package metrics

import "github.com/prometheus/client_golang/prometheus"

// Relay names a request that one node passes on for another. The set is closed.
type Relay uint8

// Relayed requests.
const (
	RelayPoll    Relay = iota // a GET that waits for packets
	RelayPost                 // a POST with packets
	RelayUpgrade              // a WebSocket handshake
	relayCount
)

var relayNames = [relayCount]string{"poll", "post", "upgrade"}

// String is the label value.
func (r Relay) String() string { return relayNames[r] }

// Move names how the move of a conn to the node that holds its WebSocket ended.
// The set is closed.
type Move uint8

// Results of moves. The owner counts postponements, the node that holds the
// WebSocket the others.
const (
	MoveDone      Move = iota // the conn is here now
	MovePostponed             // something was under way that cannot move; it is relayed and tried again
	MoveDeclined              // this node could not take it in; it is relayed and tried again
	MoveFailed                // broken off in the middle: the conn was closed, its client comes back
	moveCount
)

var moveNames = [moveCount]string{"moved", "postponed", "declined", "failed"}

// String is the label value.
func (m Move) String() string { return moveNames[m] }

// catalogueRelay is the part of New that is about the sessions of other nodes.
func (m *Metrics) catalogueRelay(r registrar) {
	fill(m.RelayedRequests[:], r.counterVec("edge_relayed_requests_total", "Requests for sessions of other nodes by what they were.", "op"), func(i int) string { return Relay(i).String() })
	fill(m.Moves[:], r.counterVec("edge_moves_total", "Moves of conns to the node that holds their WebSocket by how they ended.", "result"), func(i int) string { return Move(i).String() })
	m.RelayedWebSockets = r.gauge("edge_relayed_websockets", "WebSockets held here for conns of other nodes.")
	m.RelayedFrames = r.counter("edge_relayed_frames_total", "Pieces of traffic of such WebSockets passed on, in both directions.")
}

// relaying is what a node does for sessions of other nodes.
type relaying struct {
	RelayedRequests   [relayCount]prometheus.Counter
	Moves             [moveCount]prometheus.Counter
	RelayedWebSockets prometheus.Gauge
	RelayedFrames     prometheus.Counter
}
