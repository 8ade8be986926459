// Package fanout delivers one message to many members.
//
// A Hub owns a fixed number of shards. A Conn belongs to one shard for life;
// the shard is one goroutine that owns the conn's outbox, its place in the
// timer wheel and its share of every room, so none of these needs a lock and a
// hot room uses every core. A Member is what joins rooms: one conn may carry
// several members.
//
// Everything reaches a shard through its inbox, in order. One pass drains the
// inbox into outboxes and then writes each dirty conn once: idle, a message
// leaves at once; under load passes grow and writes merge. Control operations
// (join, leave, send, close) are never refused and never block: the callers
// bound them. Deliveries are bounded in number; one that finds no room is
// counted, and the conns it was for are closed as overloaded rather than left
// with a hole, unless it was volatile.
//
// A conn is a slow reader only when its kernel takes no more: an outbox that
// fills because the shard is busy is written out, not held against the conn.
//
// The package knows no Redis, no WebSocket and no Socket.IO: a frame is bytes,
// a room is a name in a numbered namespace.
package fanout
