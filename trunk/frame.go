package trunk

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A frame is a header and a payload. The header is the payload's length
// (uint32), the stream (uint64) and the kind (a byte), big endian.
const headerBytes = 4 + 8 + 1

// MaxMessage is the largest payload, in bytes. The largest thing a stream
// carries is a message from a client, of which MAX_PAYLOAD allows 64 MiB, with
// what describes it.
const MaxMessage = 80 << 20

// Streams and kinds with a meaning of their own.
const (
	controlStream = 0 // frames about the trunk itself

	heartbeat byte = 0 // on controlStream: nothing else was sent for a while
	goodbye   byte = 1 // on controlStream: the last frame of a node that ends

	closing byte = 0 // on any other stream: its sender closed it

	// opening marks the first message of a stream, so that a message which
	// arrives after its stream was closed is not taken for a new one.
	opening uint64 = 1 << 63
)

// frame is one frame; payload aliases the decoder's buffer.
type frame struct {
	stream  uint64
	kind    byte
	payload []byte
}

// appendFrame appends a frame to b.
func appendFrame(b []byte, stream uint64, kind byte, payload []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint64(b, stream)
	b = append(b, kind)
	return append(b, payload...)
}

// Sizes of a decoder's buffer.
const (
	readBytes = 64 << 10 // the size it has and goes back to
	keepReads = 16       // frames that fit into readBytes, in a row, until it does
)

// decoder reads frames from src. One goroutine uses it.
type decoder struct {
	src        io.Reader
	buf        []byte
	start, end int // what was read and not handed out
	small      int // frames in a row for which a larger buffer was not needed
}

func newDecoder(src io.Reader) *decoder { return &decoder{src: src, buf: make([]byte, readBytes)} }

// next returns the next frame, valid until the call after. The error is io.EOF
// only between frames.
func (d *decoder) next() (frame, error) {
	if err := d.fill(headerBytes); err != nil {
		return frame{}, err
	}
	h := d.buf[d.start:]
	length := binary.BigEndian.Uint32(h)
	if length > MaxMessage {
		return frame{}, fmt.Errorf("%w: a message of %d bytes", errProtocol, length)
	}
	f := frame{stream: binary.BigEndian.Uint64(h[4:]), kind: h[12]}
	total := headerBytes + int(length)
	if err := d.fill(total); err != nil {
		return frame{}, err
	}
	f.payload = d.buf[d.start+headerBytes : d.start+total]
	d.start += total
	if total > readBytes {
		d.small = 0
	} else if d.small < keepReads {
		d.small++
	}
	return f, nil
}

// fill reads until n bytes can be handed out.
func (d *decoder) fill(n int) error {
	for d.end-d.start < n {
		d.makeRoom(n)
		read, err := d.src.Read(d.buf[d.end:])
		d.end += read
		if d.end-d.start >= n {
			return nil // an error comes again
		}
		if err == io.EOF && d.end > d.start {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// makeRoom leaves room behind what was read, for n bytes in all or a part of
// them: a buffer grows with what arrives, not with what was announced.
func (d *decoder) makeRoom(n int) {
	have := d.end - d.start
	size := len(d.buf)
	switch {
	case have == size:
		size = min(2*size, max(n, readBytes))
	case n <= readBytes && have < readBytes && size > readBytes && d.small == keepReads:
		size = readBytes
	case d.start == 0 || have > 0 && d.start+n <= size:
		return
	}
	to := d.buf
	if size != len(d.buf) {
		to = make([]byte, size)
	}
	copy(to, d.buf[d.start:d.end])
	d.buf, d.start, d.end = to, 0, have
}
