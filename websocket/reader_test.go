package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// event is what a Reader returned: a message, or the violation that ended it.
type event struct {
	op   Opcode
	code Code
	data string
}

func (e event) String() string {
	if e.op == violation {
		return fmt.Sprintf("violation %d (%s)", e.code, e.data)
	}
	if len(e.data) > 64 {
		return fmt.Sprintf("%v %d %.64q... (%d bytes)", e.op, e.code, e.data, len(e.data))
	}
	return fmt.Sprintf("%v %d %q", e.op, e.code, e.data)
}

// violation is the op of the event that stands for an error.
const violation Opcode = 0xFF

func text(s string) event           { return event{op: Text, data: s} }
func bin(s string) event            { return event{op: Binary, data: s} }
func ping(s string) event           { return event{op: Ping, data: s} }
func pong(s string) event           { return event{op: Pong, data: s} }
func closed(c Code, s string) event { return event{op: Close, code: c, data: s} }

// fails is a violation whose text is not compared.
func fails(c Code) event { return event{op: violation, code: c} }

// rawFrame builds one frame with everything in the tester's hands. b0 is the
// first byte; a masked frame has a key that differs in all bytes.
func rawFrame(masked bool, b0 byte, payload string) []byte {
	out := appendHeader(nil, 0, false, 0, len(payload))
	out[0] = b0
	if !masked {
		return append(out, payload...)
	}
	key := [4]byte{0x37, 0xFA, 0x21, 0x3D}
	out[1] |= bitMask
	out = append(out, key[:]...)
	for i := range len(payload) {
		out = append(out, payload[i]^key[i&3])
	}
	return out
}

// feed gives chunks to a Reader until they or the connection are over. Each
// chunk is overwritten when it is consumed, as a caller that reuses its read
// buffer does.
func feed(r *Reader, lim *Limits, chunks [][]byte) (events []event) {
	for _, chunk := range chunks {
		chunk = bytes.Clone(chunk)
		in := chunk
		for {
			m, rest, ok, err := r.Next(in, lim)
			if err != nil {
				var e *Error
				if !errors.As(err, &e) {
					panic(fmt.Sprintf("error is %T", err))
				}
				return append(events, event{violation, e.Code, e.Text})
			}
			if !ok {
				break
			}
			events = append(events, event{m.Op, m.Code, string(m.Data)})
			in = rest
		}
		for i := range chunk {
			chunk[i] = 0xAA
		}
	}
	return events
}

func readWhole(in []byte, lim *Limits) []event { return feed(new(Reader), lim, [][]byte{in}) }

func byteByByte(in []byte) (chunks [][]byte) {
	for i := range in {
		chunks = append(chunks, in[i:i+1])
	}
	return chunks
}

// randomChunks cuts in into pieces of 0 to max bytes.
func randomChunks(in []byte, rng *rand.Rand, max int) (chunks [][]byte) {
	for len(in) > 0 {
		n := min(rng.IntN(max+1), len(in))
		chunks = append(chunks, in[:n])
		in = in[n:]
	}
	return chunks
}

// check reads in whole, byte by byte and in random chunks, and compares each
// result with want.
func check(t *testing.T, in []byte, lim *Limits, want []event) {
	t.Helper()
	whole := readWhole(in, lim)
	compare(t, "whole", whole, want)
	ways := map[string][][]byte{"byte by byte": byteByByte(in)}
	rng := rand.New(rand.NewPCG(1, uint64(len(in))))
	for i, size := range []int{2, 3, 7, 15, 64, 1000} {
		ways[fmt.Sprintf("random chunks %d of up to %d bytes", i, size)] = randomChunks(in, rng, size)
	}
	for name, chunks := range ways {
		var r Reader
		got := feed(&r, lim, chunks)
		compare(t, name, got, want)
		if !slices.Equal(got, whole) {
			t.Errorf("%s: %v differs from the whole input's %v", name, got, whole)
		}
	}
}

func compare(t *testing.T, how string, got, want []event) {
	t.Helper()
	same := slices.EqualFunc(got, want, func(g, w event) bool {
		if w.op == violation {
			return g.op == violation && g.code == w.code && g.data != ""
		}
		return g == w
	})
	if !same {
		t.Errorf("%s: got %v, want %v", how, got, want)
	}
}

func TestReaderSize(t *testing.T) {
	if n := unsafe.Sizeof(Reader{}); n > 64 {
		t.Errorf("Reader has %d bytes, want at most 64", n)
	}
}

func TestReaderHoldsNothingWhenIdle(t *testing.T) {
	lim := &Limits{Server: true}
	stream := slices.Concat(
		rawFrame(true, 0x81, strings.Repeat("x", 3000)),
		rawFrame(true, 0x01, "frag"), rawFrame(true, 0x89, "beat"), rawFrame(true, 0x80, "ment"),
		rawFrame(true, 0x89, "ping"),
	)
	var r Reader
	var held int
	for _, chunk := range byteByByte(stream) {
		feed(&r, lim, [][]byte{chunk})
		held = max(held, r.Buffered())
	}
	if held == 0 || r.Buffered() != 0 {
		t.Errorf("held up to %d bytes, %d when idle; want some, then 0", held, r.Buffered())
	}
}

func TestBufferGrowsWithArrival(t *testing.T) {
	lim := &Limits{Server: true, MaxMessage: 64 << 20}
	frame := rawFrame(true, 0x82, strings.Repeat("x", 1<<20))
	var r Reader
	for arrived := 0; arrived < len(frame); arrived += 1000 {
		feed(&r, lim, [][]byte{frame[arrived:min(arrived+1000, len(frame)-1)]})
		if limit := 3*(arrived+1000) + minBuffer; r.Buffered() > limit {
			t.Fatalf("%d bytes arrived, %d are held; want at most %d", arrived+1000, r.Buffered(), limit)
		}
	}
	if r.Buffered() > 1<<20 {
		t.Errorf("%d bytes held for a message of 1 MiB", r.Buffered())
	}
}

func TestLargeMessageIsCopiedOnce(t *testing.T) {
	const size, read = 16 << 20, 64 << 10
	lim := &Limits{Server: true, MaxMessage: size}
	frame := make([]byte, 0, size+maxHeader)
	frame = AppendMaskedFrame(frame, Binary, make([]byte, size), [4]byte{1, 2, 3, 4})
	allocs := testing.AllocsPerRun(1, func() {
		var r Reader
		messages := 0
		for chunk := range slices.Chunk(frame, read) {
			m, rest, ok, err := r.Next(chunk, lim)
			if err != nil || len(rest) != 0 {
				t.Fatalf("rest of %d bytes, error %v", len(rest), err)
			}
			if ok {
				messages++
				if len(m.Data) != size || cap(m.Data) != size {
					t.Fatalf("message of %d bytes in a buffer of %d, want %d", len(m.Data), cap(m.Data), size)
				}
			}
		}
		if messages != 1 {
			t.Fatalf("%d messages, want 1", messages)
		}
	})
	if allocs > 12 { // 128 KiB doubled up to 16 MiB takes 8; a buffer per read would be 256
		t.Errorf("%v allocations, want the buffer doubled", allocs)
	}
}

func TestSmallFragmentsAreNotCopiedPerFragment(t *testing.T) {
	var stream []byte
	const fragments = 10_000
	for i := range fragments {
		b0 := byte(0)
		if i == 0 {
			b0 = byte(Binary)
		}
		stream = append(stream, rawFrame(true, b0, "0123456789abcdef")...)
	}
	lim := &Limits{Server: true}
	scratch := make([]byte, len(stream))
	allocs := testing.AllocsPerRun(5, func() {
		copy(scratch, stream)
		var r Reader
		if _, _, ok, err := r.Next(scratch, lim); ok || err != nil {
			t.Fatalf("ok %v, error %v", ok, err)
		}
	})
	if allocs > 15 {
		t.Errorf("%v allocations for %d fragments", allocs, fragments)
	}
}

func TestCompleteFramesCostNoAllocation(t *testing.T) {
	var stream []byte
	want := 0
	for _, s := range []string{"", "Hello", "42[\"message\",\"r1\"]", strings.Repeat("\u00e4x", 200), strings.Repeat("y", 70000)} {
		for _, b0 := range []byte{0x81, 0x82} {
			stream = append(stream, rawFrame(true, b0, s)...)
			want++
		}
		if len(s) <= maxControl {
			stream = append(stream, rawFrame(true, 0x89, s)...)
			want++
		}
	}
	lim := &Limits{Server: true}
	scratch := make([]byte, len(stream))
	var r Reader
	allocs := testing.AllocsPerRun(20, func() {
		copy(scratch, stream)
		in, got := scratch, 0
		for {
			m, rest, ok, err := r.Next(in, lim)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if len(m.Data) > 0 && !within(m.Data, scratch) {
				t.Fatalf("message of %d bytes is a copy", len(m.Data))
			}
			got, in = got+1, rest
		}
		if got != want {
			t.Fatalf("%d messages, want %d", got, want)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

// within reports whether p lies in b, with no capacity to grow over what follows.
func within(p, b []byte) bool {
	first, last := uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&b[len(b)-1]))
	at := uintptr(unsafe.Pointer(&p[0]))
	return at >= first && at+uintptr(len(p))-1 <= last && cap(p) == len(p)
}

func TestLimitIsDecidedByTheHeader(t *testing.T) {
	lim := &Limits{Server: true, MaxMessage: 1000, MaxFragments: 3}
	long := func(b0 byte, n uint64) []byte { // header only, without the key
		return binary.BigEndian.AppendUint64([]byte{b0, 0x80 | 127}, n)
	}
	half := strings.Repeat("h", 500)
	tests := []struct {
		name string
		in   []byte
		want []event
	}{
		{"1001 bytes", []byte{0x82, 0x80 | 126, 0x03, 0xE9}, []event{fails(CodeTooBig)}},
		{"exactly 1000", rawFrame(true, 0x82, half+half), []event{bin(half + half)}},
		{"70000 bytes", long(0x82, 70000), []event{fails(CodeTooBig)}},
		{"largest length", long(0x82, math.MaxInt64), []event{fails(CodeTooBig)}},
		{"high bit", long(0x82, 1<<63), []event{fails(CodeProtocolError)}},
		{"all bits", long(0x82, math.MaxUint64), []event{fails(CodeProtocolError)}},
		{"second fragment over", append(rawFrame(true, 0x02, half), 0x80, 0x80|126, 0x01, 0xF5), []event{fails(CodeTooBig)}},
		{"second fragment wraps around", append(rawFrame(true, 0x02, half), long(0x80, math.MaxInt64)...), []event{fails(CodeTooBig)}},
		{"fragments exactly", slices.Concat(rawFrame(true, 0x02, half), rawFrame(true, 0x00, half), rawFrame(true, 0x80, "")), []event{bin(half + half)}},
		{"fourth fragment", slices.Concat(rawFrame(true, 0x02, ""), rawFrame(true, 0x00, ""), rawFrame(true, 0x00, ""), []byte{0x80}), []event{fails(CodeTooBig)}},
		{"limits start anew", slices.Concat(rawFrame(true, 0x02, half), rawFrame(true, 0x80, half), rawFrame(true, 0x02, half), rawFrame(true, 0x80, half)),
			[]event{bin(half + half), bin(half + half)}},
		{"control frames do not count", slices.Concat(rawFrame(true, 0x02, half), rawFrame(true, 0x89, half[:125]), rawFrame(true, 0x8A, half[:125]), rawFrame(true, 0x80, half)),
			[]event{ping(half[:125]), pong(half[:125]), bin(half + half)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { check(t, tt.in, lim, tt.want) })
	}
	t.Run("no limit to speak of", func(t *testing.T) {
		lim := &Limits{Server: true, MaxMessage: math.MaxInt, MaxFragments: math.MaxInt}
		in := slices.Concat(rawFrame(true, 0x02, half), long(0x80, math.MaxInt64-500), []byte{1, 2, 3, 4}, make([]byte, 100))
		check(t, in, lim, nil)
		var r Reader
		feed(&r, lim, [][]byte{in})
		if r.Buffered() > 4096 {
			t.Errorf("%d bytes are held for 600 that arrived", r.Buffered())
		}
	})
	t.Run("defaults", func(t *testing.T) {
		check(t, append(long(0x82, DefaultMaxMessage), 1, 2, 3, 4), &Limits{Server: true}, nil)
		check(t, long(0x82, DefaultMaxMessage+1), &Limits{Server: true}, []event{fails(CodeTooBig)})
	})
}

func TestErrorIsFinal(t *testing.T) {
	lim := &Limits{Server: true}
	var r Reader
	feed(&r, lim, [][]byte{rawFrame(true, 0x01, "begun")})
	_, _, _, first := r.Next([]byte{0x83}, lim)
	m, rest, ok, again := r.Next(rawFrame(true, 0x89, "x"), lim)
	if first == nil || again != first || ok || rest != nil || m.Data != nil {
		t.Errorf("first %v, then %v %v %v %v; want the same error", first, m, rest, ok, again)
	}
	if r.Buffered() != 0 {
		t.Errorf("%d bytes held after an error", r.Buffered())
	}
}

func TestControlPayloadBetweenFragmentsStaysUntilNextCall(t *testing.T) {
	lim := &Limits{Server: true}
	ping := rawFrame(true, 0x89, "heartbeat")
	var r Reader
	feed(&r, lim, [][]byte{rawFrame(true, 0x01, "message "), ping[:9]})
	m, rest, ok, err := r.Next(slices.Concat(ping[9:], rawFrame(true, 0x80, "goes on")), lim)
	if err != nil || !ok || m.Op != Ping || string(m.Data) != "heartbeat" {
		t.Fatalf("got %v %q %v %v", m.Op, m.Data, ok, err)
	}
	m, _, ok, err = r.Next(rest, lim)
	if err != nil || !ok || m.Op != Text || string(m.Data) != "message goes on" {
		t.Fatalf("got %v %q %v %v", m.Op, m.Data, ok, err)
	}
}
