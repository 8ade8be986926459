package metrics

import "github.com/prometheus/client_golang/prometheus"

// TrunkDial names how a dial to a peer ended. The set is closed.
type TrunkDial uint8

// Results of dials.
const (
	TrunkDialOK          TrunkDial = iota
	TrunkDialUnreachable           // it does not answer, or not in time
	TrunkDialRefused               // it does not take this node's secret, or does not know it itself
	TrunkDialUnknown               // there is no such node, or another one has its address now
	trunkDialCount
)

var trunkDialNames = [trunkDialCount]string{"ok", "unreachable", "refused", "unknown"}

// String is the label value.
func (d TrunkDial) String() string { return trunkDialNames[d] }

// TrunkRefusal names why a connection to PEER_ADDR did not become a trunk. The
// set is closed.
type TrunkRefusal uint8

// Refusals of incoming trunks.
const (
	TrunkRefusalSecret   TrunkRefusal = iota // the secret was not proved, or there is none yet
	TrunkRefusalNode                         // it wanted another node
	TrunkRefusalProtocol                     // what it said is no handshake, or it went away
	TrunkRefusalCrowd                        // too many handshakes at a time
	TrunkRefusalTimeout                      // the handshake took too long
	TrunkRefusalShutdown                     // this node is shutting down
	trunkRefusalCount
)

var trunkRefusalNames = [trunkRefusalCount]string{"secret", "node", "protocol", "crowd", "timeout", "shutdown"}

// String is the label value.
func (r TrunkRefusal) String() string { return trunkRefusalNames[r] }

// trunking is about the connections between nodes.
type trunking struct {
	Trunks             prometheus.Gauge // open, both directions
	TrunkDials         [trunkDialCount]prometheus.Counter
	TrunkRefusals      [trunkRefusalCount]prometheus.Counter // incoming
	TrunkBytesSent     prometheus.Counter
	TrunkBytesReceived prometheus.Counter
}

// catalogueTrunk is the part of New that is about trunks.
func (m *Metrics) catalogueTrunk(r registrar) {
	m.Trunks = r.gauge("edge_trunks", "Open connections between this node and its peers, in both directions.")
	fill(m.TrunkDials[:], r.counterVec("edge_trunk_dials_total", "Dials to peers by how they ended.", "result"), func(i int) string { return TrunkDial(i).String() })
	fill(m.TrunkRefusals[:], r.counterVec("edge_trunk_refusals_total", "Connections to PEER_ADDR that did not become a trunk by reason.", "reason"), func(i int) string { return TrunkRefusal(i).String() })
	m.TrunkBytesSent = r.counter("edge_trunk_sent_bytes_total", "Bytes sent to peers.")
	m.TrunkBytesReceived = r.counter("edge_trunk_received_bytes_total", "Bytes received from peers.")
}
