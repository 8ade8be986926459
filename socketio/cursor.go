package socketio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

var (
	errTruncated = errors.New("socketio: truncated MessagePack")
	errTooDeep   = fmt.Errorf("socketio: MessagePack nested deeper than %d", MaxDepth)
)

// kind is what a MessagePack value is, whatever its form.
type kind uint8

const (
	kindNil kind = iota
	kindBool
	kindUint // bits: value ≥ 0
	kindInt  // bits: value < 0, two's complement
	kindFloat
	kindString
	kindBin
	kindExt
	kindArray
	kindMap
)

func (k kind) String() string {
	return [...]string{"nil", "boolean", "integer", "integer", "float", "string", "binary", "extension", "array", "map"}[k]
}

// head is the header of one MessagePack value.
type head struct {
	kind kind
	ext  int8   // type of an extension
	form byte   // first byte on the wire
	n    int    // bytes of a string, binary or extension; elements of an array; pairs of a map
	bits uint64 // integer, bool (0 or 1), or float64 as its bits
}

func (h head) float() float64 { return math.Float64frombits(h.bits) }

// cursor reads MessagePack from the front. The zero depth is outside of all containers.
type cursor struct {
	data []byte
	pos  int
}

func (c *cursor) rest() []byte { return c.data[c.pos:] }

// header reads the header of the next value. Lengths are checked against what is left, so that a hostile one fails here:
// the payload of a string, binary or extension is complete, and no container has more elements than bytes remain.
func (c *cursor) header() (head, error) {
	if c.pos >= len(c.data) {
		return head{}, errTruncated
	}
	form := c.data[c.pos]
	c.pos++
	switch {
	case form <= 0x7f:
		return head{kind: kindUint, form: form, bits: uint64(form)}, nil
	case form >= 0xe0:
		return head{kind: kindInt, form: form, bits: uint64(int64(int8(form)))}, nil
	case form <= 0x8f:
		return c.sized(kindMap, form, uint64(form&0x0f))
	case form <= 0x9f:
		return c.sized(kindArray, form, uint64(form&0x0f))
	case form <= 0xbf:
		return c.sized(kindString, form, uint64(form&0x1f))
	}
	return c.wide(form)
}

// wide reads a header of the forms 0xc0 … 0xdf.
func (c *cursor) wide(form byte) (head, error) {
	switch {
	case form == 0xc0:
		return head{kind: kindNil, form: form}, nil
	case form == 0xc1:
		return head{}, errors.New("socketio: invalid MessagePack byte 0xc1")
	case form <= 0xc3:
		return head{kind: kindBool, form: form, bits: uint64(form - 0xc2)}, nil
	case form <= 0xc6:
		return c.length(kindBin, form, 1<<(form-0xc4))
	case form <= 0xc9:
		return c.length(kindExt, form, 1<<(form-0xc7))
	case form <= 0xcb:
		v, err := c.uint(4 << (form - 0xca))
		if form == 0xca {
			v = math.Float64bits(float64(math.Float32frombits(uint32(v))))
		}
		return head{kind: kindFloat, form: form, bits: v}, err
	case form <= 0xcf:
		v, err := c.uint(1 << (form - 0xcc))
		return head{kind: kindUint, form: form, bits: v}, err
	case form <= 0xd3:
		return c.signed(form)
	case form <= 0xd8:
		return c.sized(kindExt, form, 1<<(form-0xd4))
	case form <= 0xdb:
		return c.length(kindString, form, 1<<(form-0xd9))
	case form <= 0xdd:
		return c.length(kindArray, form, 2<<(form-0xdc))
	}
	return c.length(kindMap, form, 2<<(form-0xde))
}

// uint reads a big-endian integer of 1, 2, 4 or 8 bytes.
func (c *cursor) uint(width int) (uint64, error) {
	b := c.rest()
	if len(b) < width {
		return 0, errTruncated
	}
	c.pos += width
	switch width {
	case 1:
		return uint64(b[0]), nil
	case 2:
		return uint64(binary.BigEndian.Uint16(b)), nil
	case 4:
		return uint64(binary.BigEndian.Uint32(b)), nil
	}
	return binary.BigEndian.Uint64(b), nil
}

func (c *cursor) signed(form byte) (head, error) {
	width := 1 << (form - 0xd0)
	v, err := c.uint(width)
	shift := 64 - 8*width
	v = uint64(int64(v<<shift) >> shift)
	if int64(v) < 0 {
		return head{kind: kindInt, form: form, bits: v}, err
	}
	return head{kind: kindUint, form: form, bits: v}, err
}

// length reads a length of width bytes and, through sized, what belongs to it.
func (c *cursor) length(k kind, form byte, width int) (head, error) {
	n, err := c.uint(width)
	if err != nil {
		return head{}, err
	}
	return c.sized(k, form, n)
}

// sized checks a length against the bytes left; of an extension it reads the type.
func (c *cursor) sized(k kind, form byte, n uint64) (head, error) {
	h := head{kind: k, form: form}
	if k == kindExt {
		t, err := c.uint(1)
		if err != nil {
			return head{}, err
		}
		h.ext = int8(t)
	}
	need := n
	if k == kindMap {
		need = 2 * n // every key and every value takes a byte; n has at most 32 bits
	}
	if need > uint64(len(c.data)-c.pos) {
		return head{}, errTruncated
	}
	h.n = int(n)
	return h, nil
}

// take returns the next n bytes, which a header has checked to be there.
func (c *cursor) take(n int) []byte {
	b := c.data[c.pos : c.pos+n : c.pos+n]
	c.pos += n
	return b
}

// short returns the next value if it is a string of the smallest form, by far the most frequent value in adapter messages.
func (c *cursor) short() ([]byte, bool) {
	b := c.data[c.pos:]
	if len(b) == 0 || b[0]&0xe0 != 0xa0 {
		return nil, false
	}
	end := 1 + int(b[0]&0x1f)
	if end > len(b) {
		return nil, false
	}
	c.pos += end
	return b[1:end:end], true
}

// skip passes over one value.
func (c *cursor) skip() error { return c.skipNested(0) }

func (c *cursor) skipNested(depth int) error {
	if _, ok := c.short(); ok {
		return nil
	}
	h, err := c.header()
	if err != nil {
		return err
	}
	switch h.kind {
	case kindString, kindBin, kindExt:
		c.pos += h.n
		return nil
	case kindArray, kindMap:
		if depth++; depth > MaxDepth {
			return errTooDeep
		}
		children := h.n
		if h.kind == kindMap {
			children *= 2
		}
		for range children {
			if err := c.skipNested(depth); err != nil {
				return err
			}
		}
	}
	return nil
}

// raw passes over one value and returns its bytes.
func (c *cursor) raw() ([]byte, error) {
	start := c.pos
	if err := c.skip(); err != nil {
		return nil, err
	}
	return c.data[start:c.pos:c.pos], nil
}

// expect reads the header of a value that must be of kind k.
func (c *cursor) expect(k kind, what string) (int, error) {
	h, err := c.header()
	if err != nil {
		return 0, err
	}
	if h.kind != k {
		return 0, fmt.Errorf("socketio: %s is of kind %v, not %v", what, h.kind, k)
	}
	return h.n, nil
}

// SkipMsgpack returns what follows the first MessagePack value. It does not allocate; lengths beyond the input and
// nesting beyond MaxDepth are errors.
func SkipMsgpack(b []byte) (rest []byte, err error) {
	c := cursor{data: b}
	if err := c.skip(); err != nil {
		return nil, err
	}
	return c.rest(), nil
}

// SplitMsgpackArray reads the header of a MessagePack array: the number of its elements, and the bytes that start with
// the first of them. The elements themselves are not checked; SkipMsgpack passes over one.
func SplitMsgpackArray(msgpack []byte) (n int, body []byte, err error) {
	c := cursor{data: msgpack}
	if n, err = c.expect(kindArray, "MessagePack value"); err != nil {
		return 0, nil, err
	}
	return n, c.rest(), nil
}
