// Package trunk connects nodes: one authenticated, multiplexed TCP connection
// from each node to each peer that it needs something of, a trunk, carries any
// number of conversations, the streams.
//
// A stream is opened by the node that dialled, and both sides send messages on
// it: a kind (1 to 255) and a payload, of which the package knows nothing.
// Messages of a stream arrive in order, each once, until the stream ends, and a
// stream ends for both sides: with Stream.Close, behind which nothing of that
// side follows, or with its trunk.
//
// A trunk has two goroutines, and a stream has none. The reader calls
// Receivers, which must not block: what one of them does slowly is slow for all
// streams. The writer collects what is sent while it writes and sends it with
// the next write. There is no flow control of single streams: a trunk whose
// peer does not keep up has 64 MiB of queue, and then refuses to queue more.
//
// Both ends prove to each other that they know a shared secret before anything
// else is said. What follows is neither encrypted nor signed: the network
// between nodes is trusted as that between a node and Redis is.
package trunk
