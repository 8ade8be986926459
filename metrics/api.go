package metrics

import "github.com/prometheus/client_golang/prometheus"

// APIOp names an operation of the HTTP API. The set is closed.
type APIOp uint8

// Operations of the HTTP API.
const (
	APIPublish APIOp = iota
	APIPublishBatch
	APIDisconnect
	APIJoin
	APILeave
	APISockets // of the node, of a user, or one
	APIRooms
	APINode
	APIPresence
	APIOther // what is not there, or not allowed
	apiOpCount
)

var apiOpNames = [apiOpCount]string{
	"publish", "publish_batch", "disconnect", "join", "leave", "sockets", "rooms", "node", "presence", "other",
}

// String is the label value.
func (o APIOp) String() string { return apiOpNames[o] }

// APIClass is the class of an HTTP status. The set is closed.
type APIClass uint8

// Classes of answers.
const (
	APISucceeded APIClass = iota
	APIRefused
	APIFailed
	apiClassCount
)

var apiClassNames = [apiClassCount]string{"2xx", "4xx", "5xx"}

// String is the label value.
func (c APIClass) String() string { return apiClassNames[c] }

// APIClassOf is the class of a status; there are no redirects.
func APIClassOf(status int) APIClass {
	switch {
	case status < 400:
		return APISucceeded
	case status < 500:
		return APIRefused
	}
	return APIFailed
}

// serving is the part of Metrics that is about the HTTP API.
type serving struct {
	API        [apiOpCount][apiClassCount]prometheus.Counter // requests answered
	APISeconds [apiOpCount]prometheus.Observer               // until they were
	APIRunning prometheus.Gauge                              // requests under way
}

// catalogueAPI is the part of New that is about the HTTP API.
func (m *Metrics) catalogueAPI(r registrar) {
	requests := r.counterVec("edge_api_requests_total", "Requests of the HTTP API answered, by operation and class of the status.", "op", "code")
	seconds := r.histogramVec("edge_api_request_seconds", "Time until requests of the HTTP API were answered.", "op")
	for op := range m.API {
		name := APIOp(op).String()
		m.APISeconds[op] = seconds.WithLabelValues(name)
		for class := range m.API[op] {
			m.API[op][class] = requests.WithLabelValues(name, APIClass(class).String())
		}
	}
	m.APIRunning = r.gauge("edge_api_requests_running", "Requests of the HTTP API under way.")
}
