package websocket

import (
	"bytes"
	"strings"
	"testing"
)

// zeroKey masks without changing anything: a buffer that is unmasked in place
// can be read again, and the work is that of any other key.
var zeroKey = [4]byte{}

func repeatFrame(op Opcode, payload string, n int) []byte {
	return bytes.Repeat(AppendMaskedFrame(nil, op, []byte(payload), zeroKey), n)
}

// benchmarkRead reads stream in reads of size bytes; one operation is one
// message.
func benchmarkRead(b *testing.B, stream []byte, size, messages int) {
	lim := &Limits{Server: true, MaxMessage: 16 << 20}
	b.SetBytes(int64(len(stream) / messages))
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += messages {
		var r Reader
		for at := 0; at < len(stream); at += size {
			in := stream[at:min(at+size, len(stream))]
			for {
				_, rest, ok, err := r.Next(in, lim)
				if err != nil {
					b.Fatal(err)
				}
				if !ok {
					break
				}
				in = rest
			}
		}
	}
}

const smallText = `42["message","room-17",{"text":"hello, everyone","n":12345}]`

func BenchmarkReadSmallText(b *testing.B) {
	stream := repeatFrame(Text, smallText, 100)
	benchmarkRead(b, stream, len(stream), 100)
}

func BenchmarkReadSmallTextNotASCII(b *testing.B) {
	stream := repeatFrame(Text, `42["message","room-17",{"text":"`+strings.Repeat("\u4f60\u597d", 5)+`"}]`, 100)
	benchmarkRead(b, stream, len(stream), 100)
}

// BenchmarkReadSmallTextCut cuts every read inside a frame.
func BenchmarkReadSmallTextCut(b *testing.B) {
	benchmarkRead(b, repeatFrame(Text, smallText, 100), 100, 100)
}

func BenchmarkRead64KiBText(b *testing.B) {
	stream := repeatFrame(Text, strings.Repeat("0123456789abcdef", 4096), 10)
	benchmarkRead(b, stream, len(stream), 10)
}

func BenchmarkRead64KiBTextIn8KiBReads(b *testing.B) {
	benchmarkRead(b, repeatFrame(Text, strings.Repeat("0123456789abcdef", 4096), 10), 8<<10, 10)
}

func BenchmarkRead16MiBIn64KiBReads(b *testing.B) {
	benchmarkRead(b, repeatFrame(Binary, strings.Repeat("0123456789abcdef", 1<<20), 1), 64<<10, 1)
}

func BenchmarkAppendFrame(b *testing.B) {
	payload := []byte(smallText)
	dst := make([]byte, 0, 128)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendFrame(dst[:0], Text, payload)
	}
}

func BenchmarkMask64KiB(b *testing.B) {
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		mask(p, 0x3d21fa37, 1)
	}
}
