package engine

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/stellara/edge/socketio"
)

// Handshake describes the HTTP request that opened a conn, as Socket.IO's
// socket.handshake does.
type Handshake struct {
	Header  http.Header // only with Config.KeepHeaders
	Time    time.Time
	Address string // the client's IP address
	XDomain bool   // the request had an Origin
	Secure  bool
	URL     string
	Query   url.Values
	// Protocols are the subprotocols that a WebSocket which opened the conn offered,
	// as they came (RFC 6455 section 11.3.4); nil after a move from another node.
	Protocols []string
	Auth      json.RawMessage
}

// handshake is what a conn keeps of the request: as little as can be, since every
// conn has one.
type handshake struct {
	time    int64      // unix ms
	remote  netip.Addr // the zero Addr if special has it
	special *special   // nil if the request was like nearly every client's
	xdomain bool
	secure  bool
}

// special is what is not the same for nearly every client.
type special struct {
	header      http.Header
	path, query string
	address     string // "" if it is an IP address
	protocols   string // offered, separated by commas; "" if none was
}

// The path and the query that nearly every client sends.
const (
	usualPath  = "/socket.io/"
	usualQuery = "EIO=4&transport=websocket"
)

func newHandshake(r *http.Request, keepHeaders bool) *handshake {
	var header http.Header
	if keepHeaders {
		header = r.Header.Clone()
		header.Set("Host", r.Host) // net/http keeps it apart; socket.handshake has it
	}
	h := makeHandshake(header, remoteIP(r.RemoteAddr), r.URL.Path, r.URL.RawQuery)
	if offered := r.Header["Sec-Websocket-Protocol"]; offered != nil {
		if h.special == nil {
			h.special = &special{path: usualPath, query: usualQuery}
		}
		h.special.protocols = strings.Clone(strings.Join(offered, ","))
	}
	h.time, h.xdomain, h.secure = time.Now().UnixMilli(), r.Header.Get("Origin") != "", r.TLS != nil
	return h
}

// makeHandshake keeps copies of the strings, which may be parts of larger ones.
func makeHandshake(header http.Header, address, path, query string) *handshake {
	h := &handshake{}
	if h.remote = parseAddress(address); h.remote.IsValid() {
		address = ""
	}
	if header != nil || address != "" || path != usualPath || query != usualQuery {
		h.special = &special{header: header, path: strings.Clone(path), query: strings.Clone(query), address: strings.Clone(address)}
	}
	return h
}

// details are the parts of the request that most conns have in common.
func (h *handshake) details() special {
	if h.special == nil {
		return special{path: usualPath, query: usualQuery}
	}
	return *h.special
}

// address is the client's IP address.
func (h *handshake) address() string {
	if h.remote.IsValid() {
		return h.remote.String()
	}
	return h.details().address
}

// remoteIP is the address without its port.
func remoteIP(addr string) string {
	if i := strings.LastIndexByte(addr, ':'); i > 0 {
		addr = addr[:i]
	}
	return strings.Trim(addr, "[]")
}

func (h *handshake) expand(auth []byte) *Handshake {
	d := h.details()
	out := &Handshake{
		Header: d.header, Time: time.UnixMilli(h.time), Address: h.address(), XDomain: h.xdomain, Secure: h.secure,
		URL: d.path + "?" + d.query, Auth: auth,
	}
	for name := range strings.SplitSeq(d.protocols, ",") {
		if name = strings.Trim(name, " \t"); name != "" {
			out.Protocols = append(out.Protocols, name)
		}
	}
	out.Query, _ = url.ParseQuery(d.query) // what can be parsed; a bad pair is left out
	if len(auth) == 0 {
		out.Auth = json.RawMessage("{}")
	}
	return out
}

// JSON is the handshake in Socket.IO's own form, as socket.handshake in Node.
func (h *Handshake) JSON() json.RawMessage { return h.appendJSON(nil) }

// appendJSON writes the handshake in the form Node's fetchSockets shows: lower
// case header names, the last of repeated query parameters.
func (h *Handshake) appendJSON(dst []byte) []byte {
	headers := make(map[string]string, len(h.Header))
	for k, v := range h.Header {
		headers[strings.ToLower(k)] = strings.Join(v, ", ")
	}
	query := make(map[string]string, len(h.Query))
	for k, v := range h.Query {
		query[k] = v[len(v)-1]
	}
	p, err := encodeArgs(nil, []any{struct {
		Headers map[string]string `json:"headers"`
		Time    string            `json:"time"`
		Address string            `json:"address"`
		XDomain bool              `json:"xdomain"`
		Secure  bool              `json:"secure"`
		Issued  int64             `json:"issued"`
		URL     string            `json:"url"`
		Query   map[string]string `json:"query"`
		Auth    json.RawMessage   `json:"auth"`
	}{
		headers, h.Time.UTC().Format("Mon Jan 02 2006 15:04:05") + " GMT+0000 (Coordinated Universal Time)", h.Address,
		h.XDomain, h.Secure, h.Time.UnixMilli(), h.URL, query, h.Auth,
	}})
	if err != nil { // Auth was checked when it arrived
		return append(dst, "{}"...)
	}
	return append(dst, p.JSON[1:len(p.JSON)-1]...)
}

// engineError answers a request with Engine.IO's error: JSON for requests, the
// bare text and always 400 for upgrades (the wire reference of engine.io 6).
func (s *Server) engineError(w http.ResponseWriter, r *http.Request, e socketio.EngineError, upgrade bool) {
	h := w.Header()
	if upgrade {
		h.Set("Connection", "close")
		h.Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(e.Message))
		return
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	_, _ = w.Write(e.AppendJSON(nil))
}
