package websocket

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// chat is JSON of about n bytes as applications send it: an event with a list of
// objects whose names repeat and whose values do not.
func chat(n int) []byte {
	rng := rand.New(rand.NewPCG(4, uint64(n)))
	words := []string{"meeting", "tomorrow", "the", "price", "of", "it", "again", "please", "look", "at", "this", "order", "was", "shipped", "to", "you"}
	out := []byte(`42["message","room-17",{"from":"user-4711","ts":1790000000000}`)
	for len(out) < n-20 {
		out = fmt.Appendf(out, `,{"id":"%08x","text":"%s %s %s %s","price":%d.%02d,"read":%t}`, rng.Uint32(), words[rng.IntN(16)],
			words[rng.IntN(16)], words[rng.IntN(16)], words[rng.IntN(16)], rng.IntN(10000), rng.IntN(100), rng.IntN(2) == 0)
	}
	return append(out, ']')
}

// BenchmarkCompress measures one compression, and says what it saves.
func BenchmarkCompress(b *testing.B) {
	for _, size := range []int{1 << 10, 10 << 10, 1 << 20} {
		frame := AppendFrame(nil, Text, chat(size))
		for _, level := range []int{1, 2, 3, 6, 9} {
			b.Run(fmt.Sprintf("bytes=%d/level=%d", size, level), func(b *testing.B) {
				d, err := NewDeflater(level, 1)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(frame)))
				b.ReportAllocs()
				out := d.Compress(frame)
				for b.Loop() {
					out = d.Compress(frame)
				}
				b.ReportMetric(float64(len(out))/float64(len(frame)), "ratio")
			})
		}
	}
}

// BenchmarkInflate measures reading a compressed message, and the worst that 1 MiB of
// input can cost: blocks that bring nothing but tables of codes, and streams that
// bring nothing at all. What costs most for what it sends is a small message that
// becomes a large one.
func BenchmarkInflate(b *testing.B) {
	const limit = 1 << 20
	inputs := map[string][]byte{}
	for _, size := range []int{1 << 10, 10 << 10, 1 << 20} {
		inputs[fmt.Sprintf("bytes=%d", size)] = []byte(compressed(b, 1, string(chat(size))))
	}
	for len(inputs["tables"]) < limit-100 {
		inputs["tables"] = append(inputs["tables"], emptyTables()...)
	}
	for len(inputs["streams"]) < limit-100 {
		inputs["streams"] = append(inputs["streams"], "\x03\x00"...)
	}
	inputs["tables"] = append(inputs["tables"], 0)
	inputs["grows"] = []byte(compressed(b, 1, strings.Repeat("a", limit)))
	for name, in := range inputs {
		b.Run(name, func(b *testing.B) {
			var f Inflater
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				if _, fail := f.inflate(in, 2*limit); fail != nil {
					b.Fatal(fail)
				}
			}
		})
	}
}

// emptyTables is eight blocks of type 2 that describe their codes and end at once, so that they fill whole bytes.
func emptyTables() []byte {
	var w bitWriter
	for range 8 {
		w.put(0, 1)  // BFINAL
		w.put(2, 2)  // dynamic codes
		w.put(0, 5)  // 257 literal and length codes
		w.put(0, 5)  // 1 distance code
		w.put(14, 4) // 18 lengths of code length codes
		// In the order 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1: 18 and 1 have one bit each.
		for i := range 18 {
			if i == 2 || i == 17 {
				w.put(1, 3)
			} else {
				w.put(0, 3)
			}
		}
		// Codes: 1 is "0", 18 is "1". 256 zeros, then a length of 1 for code 256 and the distance code.
		w.put(1, 1)
		w.put(127, 7) // 138 zeros
		w.put(1, 1)
		w.put(107, 7) // 118 zeros
		w.put(0, 1)
		w.put(0, 1)
		w.put(0, 1) // code 256: the end
	}
	return w.out
}

// bitWriter writes bits as DEFLATE has them, the lowest first.
type bitWriter struct {
	out  []byte
	bits uint64
	n    uint
}

func (w *bitWriter) put(v uint64, n uint) {
	w.bits |= v << w.n
	w.n += n
	for w.n >= 8 {
		w.out = append(w.out, byte(w.bits))
		w.bits >>= 8
		w.n -= 8
	}
}
