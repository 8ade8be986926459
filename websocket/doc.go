// Package websocket implements RFC 6455 on bytes: frames in and out, masking,
// fragmentation, UTF-8, close codes, limits, and the opening handshake of both
// sides; and compression as RFC 7692 has it, for servers. It has no sockets, no clocks and no goroutines; whoever owns the
// connection moves the bytes and decides what to answer.
//
// # Receiving
//
// Each connection has one [Reader], all Readers of a server share one [Limits].
// Every piece of input that arrives goes through the same loop:
//
//	for {
//		m, rest, ok, err := r.Next(in, limits)
//		if err != nil {
//			return err // *Error: send its Code in a close frame, then close
//		}
//		if !ok {
//			return nil // all of in was consumed; wait for more
//		}
//		handle(m) // pings and closes included: answering them is the caller's
//		in = rest
//	}
//
// The input is scratch space: it is unmasked where it lies. A frame that is
// complete in the input is handed out as a part of it, without a copy and
// without an allocation. A frame or message that is not complete is collected
// in a buffer that grows with the bytes that arrived, never with the length
// that was declared, and that is dropped when the message is complete, so the
// Reader of a quiet connection holds no memory but its own 64 bytes.
//
// # Sending
//
// The Append functions add finished bytes to a slice. A frame for many clients
// is built once by [AppendFrame] and is read-only from then on; servers do not
// mask, so the same bytes serve every connection.
//
// # Compression
//
// [AnswerDeflate] decides about a client's offers and always agrees to that neither
// side keeps a window between messages. A Reader accepts compressed messages after
// AcceptDeflate and hands out what they inflate to, which is held to the same limit. A
// [Deflater] makes the compressed form of finished frames, which then serves every
// connection that agreed.
//
// # Concurrency
//
// A Reader belongs to one goroutine at a time; calls to its methods must not
// overlap, and handing it to another goroutine needs a happens-before edge. The
// Data of a [Message] is valid until the next call of Next on the same Reader
// or until the input it came with is reused, whichever is first: copy what must
// stay. A Limits value is read without a lock and must not change once a Reader
// uses it. All functions are safe for concurrent use on different arguments.
//
// # Violations
//
// Whatever the RFC forbids ends the connection with the code that the RFC
// names: 1002 for broken framing, 1007 for text that is not UTF-8, 1009 for a
// message over the limits. Lengths are compared with the limit when the header
// is read, before a byte of the payload is kept, and text is refused with the
// first byte that makes it invalid, even in the middle of a frame; a compressed
// message when it is complete, with 1007 also if it cannot be inflated. Code 1003
// is for the caller that accepts only one kind of message.
package websocket
