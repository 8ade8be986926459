package websocket

import (
	"compress/flate"
	"errors"
	"io"
	"strconv"
	"sync"
)

// inflateEnd follows a compressed message: what the sender left out (RFC 7692
// section 7.2.2), then an empty last block, behind which flate's reader says io.EOF.
const inflateEnd = syncMarker + "\x01\x00\x00\xff\xff"

// minInflated is the smallest buffer for an inflated message, in bytes.
const minInflated = 512

// Inflater has what the Readers of a server need while they inflate a message, and
// not longer. The zero value is ready to use, by several goroutines at once.
type Inflater struct {
	idle sync.Pool // *inflating
}

// inflating is what one message needs: about 43 KB.
type inflating struct {
	source deflated
	r      io.ReadCloser // made by flate.NewReader
}

// deflated is a compressed message and inflateEnd. It is an io.ByteReader, so that
// flate takes no byte that it does not need.
type deflated struct {
	message []byte
	at      int
}

func (d *deflated) ReadByte() (byte, error) {
	i := d.at
	if i < len(d.message) {
		d.at++
		return d.message[i], nil
	}
	if i -= len(d.message); i < len(inflateEnd) {
		d.at++
		return inflateEnd[i], nil
	}
	return 0, io.EOF
}

func (d *deflated) Read(p []byte) (int, error) {
	n := 0
	if d.at < len(d.message) {
		n = copy(p, d.message[d.at:])
	} else {
		n = copy(p, inflateEnd[d.at-len(d.message):])
	}
	d.at += n
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// inflate returns the message that p is the compressed form of. It stops with the
// first byte beyond limit, and its buffer grows with what was inflated.
func (f *Inflater) inflate(p []byte, limit int) ([]byte, *Error) {
	z, _ := f.idle.Get().(*inflating)
	if z == nil {
		z = &inflating{}
		z.r = flate.NewReader(&z.source)
	}
	defer func() {
		z.source.message = nil // it is the connection's
		f.idle.Put(z)
	}()
	z.source = deflated{message: p}
	out := make([]byte, 0, min(limit, max(2*len(p), minInflated)))
	for {
		_ = z.r.(flate.Resetter).Reset(&z.source, nil) // it never fails
		var fail *Error
		if out, fail = z.inflateStream(out, limit); fail != nil {
			return nil, fail
		}
		// A block may be marked as the last one; others may follow it, from the next
		// byte on (RFC 7692 section 7.2.1).
		switch at := z.source.at; {
		case at == len(p), at == len(p)+len(inflateEnd):
			return out, nil
		case at > len(p):
			return nil, errDeflated()
		}
	}
}

// inflateStream appends blocks up to one that is marked as the last.
func (z *inflating) inflateStream(out []byte, limit int) ([]byte, *Error) {
	for {
		if len(out) == cap(out) {
			if len(out) >= limit {
				return z.endStream(out, limit)
			}
			grown := make([]byte, len(out), min(limit, 2*cap(out)))
			copy(grown, out)
			out = grown
		}
		n, err := z.r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, errDeflated()
		}
	}
}

// endStream expects the end of a stream, for a message that may not become larger.
func (z *inflating) endStream(out []byte, limit int) ([]byte, *Error) {
	var more [1]byte
	for {
		n, err := z.r.Read(more[:])
		switch {
		case n > 0:
			return nil, &Error{Code: CodeTooBig, Text: "compressed message inflates over the limit of " + strconv.Itoa(limit) + " bytes"}
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, errDeflated()
		}
	}
}

// errDeflated has the code that the reference implementation's library closes with.
func errDeflated() *Error {
	return &Error{Code: CodeInvalidPayload, Text: "compressed message cannot be inflated"}
}
