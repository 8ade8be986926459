package socketio

import (
	"fmt"
	"unicode/utf8"
)

// The methods here read the fields of adapter messages, with the leniency of a JavaScript reader: a missing or nil field is
// an empty one, and a name that is a number or boolean counts as its text.

// optional reads the header of a value of kind k or nil, which counts as empty, and returns the count.
func (c *cursor) optional(k kind, what string) (int, error) {
	if c.pos < len(c.data) && c.data[c.pos] == 0xc0 {
		c.pos++
		return 0, nil
	}
	return c.expect(k, what)
}

// name reads the key of a map entry. A key that is no string is passed over and returned as nil: no field has that name.
func (c *cursor) name() ([]byte, error) {
	if name, ok := c.short(); ok {
		return name, nil
	}
	start := c.pos
	h, err := c.header()
	if err != nil {
		return nil, err
	}
	if h.kind == kindString {
		return c.take(h.n), nil
	}
	c.pos = start
	return nil, c.skip()
}

// text reads a string, or a number, boolean or nil as its text. If the text equals kept, kept is returned, so that a
// reused field costs no allocation while its value repeats.
func (c *cursor) text(kept, what string) (string, error) {
	var room [32]byte
	text, ok := c.short()
	if !ok {
		h, err := c.header()
		switch {
		case err != nil:
			return "", err
		case h.kind == kindString:
			text = c.take(h.n)
		default:
			if text, ok = appendScalarText(room[:0], h); !ok {
				return "", fmt.Errorf("socketio: %s is of kind %v, not string", what, h.kind)
			}
		}
	}
	if !utf8.Valid(text) {
		text = validUTF8(text)
	}
	if string(text) == kept {
		return kept, nil
	}
	return string(text), nil
}

// texts reads an array of texts into list, whose elements are reused; nil counts as empty.
func (c *cursor) texts(list []string, what string) ([]string, error) {
	n, err := c.optional(kindArray, what)
	if err != nil {
		return list[:0], err
	}
	old := list[:cap(list)]
	list = list[:0]
	for i := range n {
		kept := ""
		if i < len(old) {
			kept = old[i]
		}
		s, err := c.text(kept, what)
		if err != nil {
			return list, err
		}
		list = append(list, s)
	}
	return list, nil
}

// integer reads a number that must be a whole one, 0 … MaxID.
func (c *cursor) integer(what string) (uint64, error) {
	h, err := c.header()
	if err != nil {
		return 0, err
	}
	if f := h.number(); h.kind == kindFloat && f >= 0 && f <= MaxID && f == float64(uint64(f)) {
		return uint64(f), nil
	}
	if h.kind != kindUint || h.bits > MaxID {
		return 0, fmt.Errorf("socketio: %s is not an integer from 0 to %d", what, int64(MaxID))
	}
	return h.bits, nil
}

// number returns the value of a number, 0 for anything else.
func (h head) number() float64 {
	switch h.kind {
	case kindUint:
		return float64(h.bits)
	case kindInt:
		return float64(int64(h.bits))
	case kindFloat:
		return h.float()
	}
	return 0
}

// truthy reports what JavaScript makes of the value in a condition.
func (h head) truthy() bool {
	switch h.kind {
	case kindNil:
		return false
	case kindBool, kindUint, kindInt:
		return h.bits != 0
	case kindFloat:
		return h.float() != 0 && h.float() == h.float()
	case kindString:
		return h.n != 0
	}
	return true
}

// validUTF8 returns text with U+FFFD in place of every byte that is not UTF-8, in new memory.
func validUTF8(text []byte) []byte {
	out := make([]byte, 0, len(text)+2*utf8.UTFMax)
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		out = utf8.AppendRune(out, r)
		text = text[size:]
	}
	return out
}
