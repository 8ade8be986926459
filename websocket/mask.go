package websocket

import (
	"encoding/binary"
	"math/bits"
)

// mask applies the masking of RFC 6455 section 5.3 to p in place; doing so twice
// restores p. The key is in little-endian byte order, offset is the position of
// p[0] in the payload.
func mask(p []byte, key uint32, offset int) {
	key = bits.RotateLeft32(key, -8*(offset&3))
	key64 := uint64(key)<<32 | uint64(key)
	for len(p) >= 32 {
		w := p[:32:32]
		binary.LittleEndian.PutUint64(w[0:], binary.LittleEndian.Uint64(w[0:])^key64)
		binary.LittleEndian.PutUint64(w[8:], binary.LittleEndian.Uint64(w[8:])^key64)
		binary.LittleEndian.PutUint64(w[16:], binary.LittleEndian.Uint64(w[16:])^key64)
		binary.LittleEndian.PutUint64(w[24:], binary.LittleEndian.Uint64(w[24:])^key64)
		p = p[32:]
	}
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^key64)
		p = p[8:]
	}
	for i := range p {
		p[i] ^= byte(key64 >> (8 * i))
	}
}
