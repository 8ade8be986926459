package socketio

import (
	"math"
	"strconv"
	"time"
)

// Flags are the modifiers of a broadcast, as they travel in its options.
type Flags struct {
	Volatile             bool
	Local                bool // only this node; never sent
	NoCompress           bool // compress: false
	Timeout              time.Duration
	Broadcast            bool
	ExpectSingleResponse bool
}

// members returns the number of members that appendMsgpack writes.
func (f *Flags) members() int {
	n := 0
	for _, set := range [...]bool{f.Volatile, f.NoCompress, f.Timeout > 0, f.Broadcast, f.ExpectSingleResponse} {
		if set {
			n++
		}
	}
	return n
}

// appendMsgpack appends the flags as a map, in this order. Local is left out: what carries it is not published.
func (f *Flags) appendMsgpack(dst []byte) []byte {
	dst = AppendMsgpackMapHeader(dst, f.members())
	if f.Volatile {
		dst = AppendMsgpackBool(AppendMsgpackString(dst, "volatile"), true)
	}
	if f.NoCompress {
		dst = AppendMsgpackBool(AppendMsgpackString(dst, "compress"), false)
	}
	if f.Timeout > 0 {
		dst = AppendMsgpackInt(AppendMsgpackString(dst, "timeout"), f.Timeout.Milliseconds())
	}
	if f.Broadcast {
		dst = AppendMsgpackBool(AppendMsgpackString(dst, "broadcast"), true)
	}
	if f.ExpectSingleResponse {
		dst = AppendMsgpackBool(AppendMsgpackString(dst, "expectSingleResponse"), true)
	}
	return dst
}

// flags reads a map of flags; nil counts as empty, unknown names are passed over.
func (c *cursor) flags(f *Flags) error {
	*f = Flags{}
	n, err := c.optional(kindMap, "flags")
	if err != nil {
		return err
	}
	for range n {
		name, err := c.name()
		if err != nil {
			return err
		}
		start := c.pos
		h, err := c.header()
		if err != nil {
			return err
		}
		switch string(name) {
		case "volatile":
			f.Volatile = h.truthy()
		case "local":
			f.Local = h.truthy()
		case "compress":
			f.NoCompress = h.kind == kindBool && h.bits == 0
		case "timeout":
			f.Timeout = milliseconds(h.number())
		case "broadcast":
			f.Broadcast = h.truthy()
		case "expectSingleResponse":
			f.ExpectSingleResponse = h.truthy()
		}
		c.pos = start
		if err := c.skip(); err != nil {
			return err
		}
	}
	return nil
}

// flagsFromJSON reads the JSON form.
func flagsFromJSON(data []byte, maxDepth int) (Flags, error) {
	var f Flags
	if isNull(data) {
		return f, nil
	}
	err := eachMember(data, maxDepth, func(name string, value []byte) error {
		switch name {
		case "volatile":
			f.Volatile = jsonTruthy(value)
		case "local":
			f.Local = jsonTruthy(value)
		case "compress":
			f.NoCompress = string(value) == "false"
		case "timeout":
			if ms, err := strconv.ParseFloat(string(value), 64); err == nil {
				f.Timeout = milliseconds(ms)
			}
		case "broadcast":
			f.Broadcast = jsonTruthy(value)
		case "expectSingleResponse":
			f.ExpectSingleResponse = jsonTruthy(value)
		}
		return nil
	})
	return f, err
}

// maxTimeout is the longest timeout in whole milliseconds that a time.Duration holds.
const maxTimeout = math.MaxInt64 / time.Millisecond * time.Millisecond

// milliseconds converts a number from the wire; what is not a positive time counts as none.
func milliseconds(ms float64) time.Duration {
	switch {
	case !(ms > 0):
		return 0
	case ms >= float64(maxTimeout.Milliseconds()):
		return maxTimeout
	}
	return time.Duration(ms * float64(time.Millisecond))
}
