package main

import (
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/stellara/edge/engine"
)

// maxRoomPage bounds the rooms of one page.
const maxRoomPage = 1_000

// nodeInfo is what a node says of itself. Making it asks nobody: it may be asked for
// every second.
type nodeInfo struct {
	Node     string    `json:"node"` // its sockets' ids begin with it, unless they came from another node
	Version  string    `json:"version"`
	Go       string    `json:"go"`
	Started  time.Time `json:"started"`
	Uptime   float64   `json:"uptime_seconds"`
	Ready    bool      `json:"ready"`
	Missing  string    `json:"missing,omitempty"` // why it is not ready
	Draining bool      `json:"draining"`

	Conns         connInfo     `json:"conns"`
	Sockets       int          `json:"sockets"`
	Rooms         int          `json:"rooms"` // with members on this node
	Sessions      int          `json:"sessions"`
	Subscriptions int          `json:"subscriptions"`
	Redis         redisInfo    `json:"redis"`
	Trunks        int          `json:"trunks"` // connections to other nodes
	Traffic       trafficInfo  `json:"traffic"`
	Settings      settingsInfo `json:"settings"`
}

type connInfo struct {
	Open      int `json:"open"`
	WebSocket int `json:"websocket"`
	Polling   int `json:"polling"`
	Max       int `json:"max"`
}

type redisInfo struct {
	Server    string `json:"server"` // without credentials; embedded: in the process
	Connected bool   `json:"connected"`
}

// trafficInfo is what went by since the start.
type trafficInfo struct {
	Published     uint64 `json:"published"`
	Delivered     uint64 `json:"delivered"`
	ReceivedBytes uint64 `json:"received_bytes"`
	SentBytes     uint64 `json:"sent_bytes"`
}

type settingsInfo struct {
	Auth          string  `json:"auth"`
	Recovery      string  `json:"recovery"`
	Deflate       string  `json:"deflate"`
	Subscriptions string  `json:"subscriptions"`
	MaxPayload    int     `json:"max_payload"`
	PingInterval  float64 `json:"ping_interval_seconds"`
	PingTimeout   float64 `json:"ping_timeout_seconds"`
}

// reporter returns what makes a node's nodeInfo.
func (n *node) reporter(name string, maxConns int) func() nodeInfo {
	started, m, cfg := time.Now(), n.metrics, n.cfg
	settings := settingsInfo{
		Auth: string(cfg.Auth), Recovery: cfg.Recovery.String(), Deflate: cfg.Deflate.String(), Subscriptions: cfg.subscriptionsInUse(),
		MaxPayload: cfg.MaxPayload, PingInterval: cfg.PingInterval.Seconds(), PingTimeout: cfg.PingTimeout.Seconds(),
	}
	return func() nodeInfo {
		info := nodeInfo{
			Node: name, Version: edgeVersion(), Go: runtime.Version(), Started: started.UTC(), Uptime: time.Since(started).Seconds(),
			Ready: true, Draining: n.ready.draining.Load(),
			Conns: connInfo{
				Open: n.engine.Conns(), WebSocket: int(valueOf(m.ConnsWebSocket)), Polling: int(valueOf(m.ConnsPolling)), Max: maxConns,
			},
			Sockets: int(valueOf(m.Sockets)), Rooms: int(valueOf(m.Rooms)), Sessions: int(valueOf(m.Sessions)),
			Subscriptions: int(valueOf(m.Subscriptions)),
			Redis:         redisInfo{cfg.redisName(), valueOf(m.RedisUp) == 1},
			Trunks:        int(valueOf(m.Trunks)),
			Traffic: trafficInfo{
				Published: uint64(valueOf(m.Published)), Delivered: uint64(valueOf(m.Delivered)),
				ReceivedBytes: uint64(valueOf(m.BytesReceived)), SentBytes: uint64(valueOf(m.BytesSent)),
			},
			Settings: settings,
		}
		if err := n.ready.err(); err != nil {
			info.Ready, info.Missing = false, missing(err)
		}
		return info
	}
}

// valueOf is the present value of a counter or a gauge.
func valueOf(m prometheus.Metric) float64 {
	var d dto.Metric
	if m.Write(&d) != nil {
		return 0
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue() // one of them
}

// nodeInfo answers GET node.
func (a *api) nodeInfo(*apiCall) (any, *problem) { return a.info(), nil }

// showDrain answers GET drain.
func (a *api) showDrain(*apiCall) (any, *problem) { return a.drain.state(a.conns()), nil }

// beginDrain answers POST drain. That other sites' pages cannot ask is guardBrowsers' doing.
func (a *api) beginDrain(c *apiCall) (any, *problem) {
	exit, err := exitWanted(c.query.Get("exit"))
	if err != nil {
		return nil, invalidf("%v", err)
	}
	a.drain.begin(exit, "POST "+c.r.URL.Path)
	c.status = http.StatusAccepted
	return a.drain.state(a.conns()), nil
}

// apiRoomMembers is a room with members on this node.
type apiRoomMembers struct {
	Room    string `json:"room"`
	Sockets int    `json:"sockets"` // on this node
}

// listRooms answers GET rooms: those of this node, the largest first.
func (a *api) listRooms(c *apiCall) (any, *problem) {
	limit, p := limitOf(c, maxRoomPage)
	if p != nil {
		return nil, p
	}
	after, p := parseRoomCursor(c.query.Get("cursor"))
	if p != nil {
		return nil, p
	}
	answer := struct {
		Node  string           `json:"node"`
		Rooms []apiRoomMembers `json:"rooms"`
		Next  string           `json:"next,omitempty"`
	}{Node: a.node, Rooms: []apiRoomMembers{}}
	p = a.work(c.ctx, func() *problem {
		page, more := a.local.LocalRooms(after, limit)
		for _, r := range page {
			answer.Rooms = append(answer.Rooms, apiRoomMembers{r.Name, r.Members})
		}
		if more {
			answer.Next = roomCursor(page[len(page)-1])
		}
		return nil
	})
	return answer, p
}

// roomCursor names the last room of a page: how many members it had, and its name.
func roomCursor(r engine.LocalRoom) string {
	return base64.RawURLEncoding.EncodeToString(append(binary.AppendUvarint(nil, uint64(r.Members)), r.Name...))
}

// parseRoomCursor reads a cursor, nil of "".
func parseRoomCursor(cursor string) (*engine.LocalRoom, *problem) {
	if cursor == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	members, n := binary.Uvarint(b)
	if err != nil || n <= 0 || members > 1<<31 {
		return nil, invalidf("cursor %q is not the next of a page", shorten(cursor))
	}
	return &engine.LocalRoom{Name: string(b[n:]), Members: int(members)}, nil
}
