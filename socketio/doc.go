// Package socketio reads and writes the bytes of Engine.IO revision 4, Socket.IO revision 5 and the Redis messages of
// @socket.io/redis-adapter (classic, v8) and @socket.io/redis-emitter.
//
// The package is pure: no sockets, no clocks, no goroutines and no mutable state of its own. Every function may be
// called from any goroutine; a value with methods on a pointer (Assembler, Broadcast) belongs to one goroutine at a time.
//
// Client JSON is never decoded into values. Parse checks that it is well formed and hands it on as bytes; the transcoders
// (AppendMsgpackFromJSON, AppendJSONFromMsgpack) go from bytes to bytes, keep the order of keys and duplicate keys, keep
// integers exact in the 64-bit range, and print everything else as JSON.stringify and notepack.io do.
//
// What goes to a client is always valid: UTF-8 (U+FFFD stands for a lone surrogate or a bad byte when text is
// transcoded), at most MaxAttachments attachments, no reserved event name and no placeholder without its attachment,
// because clients close the connection on each of those.
package socketio

// Limits. They hold for everything this package accepts and produces.
const (
	// MaxAttachments is the number of binary attachments one packet may have. socket.io-parser 4.2.6 and later, on both
	// sides, close the connection of a peer that announces more.
	MaxAttachments = 10

	// MaxDepth is the number of arrays and objects a value may nest. The reference has no limit of its own (V8's stack
	// is one); this one bounds the recursion that a hostile message can cause, far above what applications send.
	MaxDepth = 128

	// MaxID is the largest acknowledgement id: 2^53-1, the last integer that JavaScript represents exactly. The
	// reference answers a larger id with a rounded one, which no client recognises; here it is an error.
	MaxID = 1<<53 - 1
)

// envelopeDepth is added to MaxDepth for the adapter's own JSON, whose values travel inside a few levels of structure.
const envelopeDepth = 8
