package metrics

import "github.com/prometheus/client_golang/prometheus"

// catalogueDeflate is the part of New that is about compression.
func (m *Metrics) catalogueDeflate(r registrar) {
	m.DeflateConns = r.counter("edge_deflate_conns_total", "WebSocket handshakes that agreed to permessage-deflate.")
	m.Deflated = r.counter("edge_deflate_messages_total", "Messages compressed, each once for all conns that get it.")
	m.DeflateInput = r.counter("edge_deflate_input_bytes_total", "Bytes of those messages before.")
	m.DeflateOutput = r.counter("edge_deflate_output_bytes_total", "Bytes of those messages after.")
	m.DeflateFutile = r.counter("edge_deflate_futile_total", "Messages that did not become smaller and were sent as they are.")
	m.DeflateSeconds = r.counter("edge_deflate_seconds_total", "Time that shards spent compressing.")
}

// deflating is compression with permessage-deflate.
type deflating struct {
	DeflateConns                prometheus.Counter
	Deflated, DeflateFutile     prometheus.Counter
	DeflateInput, DeflateOutput prometheus.Counter
	DeflateSeconds              prometheus.Counter
}
