// Package engine is a Socket.IO server in Go: Engine.IO protocol revision 4,
// Socket.IO protocol revision 5, over WebSocket and long-polling.
//
//	srv, err := engine.New(engine.Config{}, nil, metrics.New(prometheus.NewRegistry(), "v1"))
//	chat := srv.Of("/chat")
//	chat.OnConnection(func(s *engine.Socket) { s.Join("lobby", nil) })
//	chat.On("say", func(s *engine.Socket, e *engine.Event) {
//		s.To("lobby").Emit("said", e.Raw(0))
//	})
//	err = srv.Start()
//	http.Handle("/socket.io/", srv)
//
// # One way through
//
// net/http serves the handshake. Then the TCP connection moves into the event
// loop (nbio's core engine, epoll) and costs no goroutine. A poller reads bytes,
// package websocket makes messages of them, package socketio packets, and the
// socket's handler runs: on the poller in namespaces made with Inline, on a
// bounded pool otherwise; for one socket always one at a time, in order.
//
// Broadcasts go to the Bus, also those for this node's own members: they come
// back through Server.Deliver as everybody else's do, so that all nodes see one
// order per room. Deliver encodes the frame once and hands it to package fanout,
// whose shards write it. Only Local broadcasts and emits to one socket stay on
// the node.
//
// Long-polling stays on net/http: a parked GET costs a goroutine. The outbox is
// its buffer, and an upgrade swaps the transport below it, on its shard.
//
// # Guarantees
//
// All members of a room see the room's messages in one order, on all nodes.
//
// With Config.Recovery a message that is journalled and that the bus accepted
// reaches every member exactly once and in order, also a member that lost its
// connection and comes back in time, to whatever node: see Recovery. Where that
// cannot be proved the conn is closed, or its return is not recovered; there is
// never a silent hole. Volatile events, Local broadcasts, and what Emit sends to
// one socket are at most once, and so is everything without Config.Recovery: a
// message is lost for a client that is not connected or that reads too slowly,
// and for all clients of a node while its connection to Redis is broken. Every
// loss has a name, which is a metric label: see package metrics.
package engine
