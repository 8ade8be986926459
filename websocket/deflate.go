package websocket

import (
	"compress/flate"
	"fmt"
	"sync"
)

// The levels of a [Deflater], those of compress/flate.
const (
	MinDeflateLevel = flate.BestSpeed
	MaxDeflateLevel = flate.BestCompression
)

// bitDeflated is RSV1: the message is compressed (RFC 7692 section 6).
const bitDeflated = 0x40

// syncMarker ends what flate.Writer.Flush wrote: the last bytes of an empty block,
// which are not sent (RFC 7692 section 7.2.1).
const syncMarker = "\x00\x00\xff\xff"

// Deflater compresses the messages of a server (RFC 7692), each on its own, without
// the window of an earlier one, so that the result is right for every connection that
// agreed to [AnswerDeflate]'s answer. It may be used by several goroutines.
type Deflater struct {
	level, from int
	idle        sync.Pool // *deflating
}

// deflating is what one compression needs: about a megabyte, most of it flate's tables.
type deflating struct {
	w   *flate.Writer
	out appender
}

// appender is an io.Writer that never fails.
type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

// NewDeflater makes a Deflater of a level from MinDeflateLevel, the fastest, to
// MaxDeflateLevel, the smallest, for messages of at least from bytes.
func NewDeflater(level, from int) (*Deflater, error) {
	if level < MinDeflateLevel || level > MaxDeflateLevel {
		return nil, fmt.Errorf("websocket: deflate level %d is not between %d and %d", level, MinDeflateLevel, MaxDeflateLevel)
	}
	return &Deflater{level: level, from: from}, nil
}

// Compress returns frames, which must be unmasked, whole and final as [AppendFrame]
// makes them, with every message compressed that is large enough and becomes smaller by
// it. The others, and control frames, stay as they are. It returns nil if that is all of
// them. frames is not changed, and the result is no part of it.
func (d *Deflater) Compress(frames []byte) []byte {
	z, _ := d.idle.Get().(*deflating)
	if z == nil {
		z = &deflating{}
		z.w, _ = flate.NewWriter(&z.out, d.level) // NewDeflater checked the level
	}
	defer d.idle.Put(z)
	var out []byte
	plain := 0 // what is before it is in out
	for at := 0; at < len(frames); {
		h := decodeHeader(frames[at : at+headerLength(frames[at+1])])
		start := at + int(h.size)
		end := start + int(h.length)
		if payload := frames[start:end]; !h.op.Control() && len(payload) >= d.from {
			if small := z.deflate(payload); len(small) < len(payload) {
				if out == nil {
					out = make([]byte, 0, at+FrameSize(len(small))+len(frames)-end)
				}
				out = append(out, frames[plain:at]...)
				header := len(out)
				out = appendHeader(out, h.op, true, 0, len(small))
				out[header] |= bitDeflated
				out = append(out, small...)
				plain = end
			}
		}
		at = end
	}
	if out == nil {
		return nil
	}
	return append(out, frames[plain:]...)
}

// headerLength is the size of an unmasked frame's header, by its second byte.
func headerLength(b1 byte) int {
	switch b1 & bitsLength {
	case length16:
		return 4
	case length64:
		return 10
	}
	return 2
}

// deflate compresses one message (RFC 7692 section 7.2.1). The result is valid until
// the next call.
func (z *deflating) deflate(p []byte) []byte {
	z.out = z.out[:0]
	z.w.Reset(&z.out)
	_, _ = z.w.Write(p) // an appender takes everything
	_ = z.w.Flush()
	return z.out[:len(z.out)-len(syncMarker)]
}
