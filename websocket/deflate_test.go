package websocket

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// deflatingReader is a Reader that may be sent compressed messages.
func deflatingReader() *Reader {
	r := new(Reader)
	r.AcceptDeflate()
	return r
}

func deflateLimits(server bool) *Limits { return &Limits{Server: server, Inflater: new(Inflater)} }

// checkDeflate is check for a connection that agreed to permessage-deflate.
func checkDeflate(t *testing.T, in []byte, lim *Limits, want []event) {
	t.Helper()
	rng := rand.New(rand.NewPCG(2, uint64(len(in))))
	for _, chunks := range [][][]byte{{in}, byteByByte(in), randomChunks(in, rng, 5), randomChunks(in, rng, 1000)} {
		got := feed(deflatingReader(), lim, chunks)
		if !slices.EqualFunc(got, want, func(a, b event) bool {
			return a.op == b.op && a.code == b.code && (a.data == b.data || a.op == violation && b.data == "")
		}) {
			t.Fatalf("% .40x in %d chunks:\n got %v\nwant %v", in, len(chunks), got, want)
		}
	}
}

// compressed is the form of a message that its sender flushed, by compress/flate.
func compressed(t testing.TB, level int, message string) string {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(w, message)
	_ = w.Flush()
	return strings.TrimSuffix(out.String(), syncMarker)
}

// TestRFC7692Examples are those of section 7.2.3.
func TestRFC7692Examples(t *testing.T) {
	const hello = "\xf2\x48\xcd\xc9\xc9\x07\x00"
	client := deflateLimits(false)
	for name, c := range map[string]struct {
		in   string
		want []event
	}{
		"one block":                      {"\xc1\x07" + hello, []event{text("Hello")}},
		"two fragments":                  {"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00", []event{text("Hello")}},
		"a ping between":                 {"\x41\x03\xf2\x48\xcd\x89\x01p\x80\x04\xc9\xc9\x07\x00", []event{ping("p"), text("Hello")}},
		"the same message again":         {"\xc1\x07" + hello + "\xc1\x07" + hello, []event{text("Hello"), text("Hello")}},
		"one that needs the last window": {"\xc1\x07" + hello + "\xc1\x05\xf2\x00\x11\x00\x00", []event{text("Hello"), fails(CodeInvalidPayload)}},
		"a block without compression":    {"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", []event{text("Hello")}},
		"BFINAL":                         {"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00", []event{text("Hello")}},
		"two blocks":                     {"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", []event{text("Hello")}},
		"empty":                          {"\xc1\x01\x00", []event{text("")}},
	} {
		t.Run(name, func(t *testing.T) { checkDeflate(t, []byte(c.in), client, c.want) })
	}
}

// TestDeflateRSV1: only the first frame of a data message may be marked, and only
// where the handshakes agreed.
func TestDeflateRSV1(t *testing.T) {
	small := compressed(t, 9, "abcabcabc")
	server := deflateLimits(true)
	frames := func(send ...any) (out []byte) {
		for i := 0; i < len(send); i += 2 {
			out = append(out, rawFrame(true, byte(send[i].(int)), send[i+1].(string))...)
		}
		return out
	}
	for name, c := range map[string]struct {
		in   []byte
		want event
	}{
		"continuation":      {frames(0x41, small[:2], 0xC0, small[2:]), fails(CodeProtocolError)},
		"ping":              {frames(0xC9, ""), fails(CodeProtocolError)},
		"close":             {frames(0xC8, ""), fails(CodeProtocolError)},
		"RSV2":              {frames(0xA1, small), fails(CodeProtocolError)},
		"RSV1 and RSV2":     {frames(0xE1, small), fails(CodeProtocolError)},
		"RSV1 and RSV3":     {frames(0xD1, small), fails(CodeProtocolError)},
		"reserved opcode":   {frames(0xC3, small), fails(CodeProtocolError)},
		"in a message":      {frames(0x01, "a", 0xC1, small), fails(CodeProtocolError)},
		"binary":            {frames(0xC2, small), bin("abcabcabc")},
		"not compressed":    {frames(0x81, "plain"), text("plain")},
		"text of bad UTF-8": {frames(0xC1, compressed(t, 9, "a\xFFb")), event{violation, CodeInvalidPayload, errText().Text}},
		"text cut off":      {frames(0xC1, compressed(t, 9, "a\xE2\x82")), event{violation, CodeInvalidPayload, errText().Text}},
		"binary of it":      {frames(0xC2, compressed(t, 9, "a\xFFb")), bin("a\xFFb")},
		"a character cut":   {frames(0x41, compressed(t, 9, "\u20ac\u20ac")[:2], 0x80, compressed(t, 9, "\u20ac\u20ac")[2:]), text("\u20ac\u20ac")},
	} {
		t.Run(name, func(t *testing.T) { checkDeflate(t, c.in, server, []event{c.want}) })
	}
	marked := rawFrame(true, 0xC1, small)
	check(t, marked, server, []event{fails(CodeProtocolError)}) // nothing was agreed
	checkDeflate(t, marked, &Limits{Server: true}, []event{fails(CodeProtocolError)})
}

// TestInflateCorrupt: what cannot be inflated closes with 1007.
func TestInflateCorrupt(t *testing.T) {
	whole := compressed(t, 6, strings.Repeat("some text that is compressed; ", 10))
	final := func() string { // a stream that ends with BFINAL
		var out bytes.Buffer
		w, _ := flate.NewWriter(&out, 6)
		_, _ = io.WriteString(w, "first ")
		_ = w.Close()
		return out.String()
	}()
	for name, c := range map[string]struct {
		in   string
		want event
	}{
		"nothing":                     {"", fails(CodeInvalidPayload)},
		"cut":                         {whole[:len(whole)/2], fails(CodeInvalidPayload)},
		"reserved block type":         {"\x06", fails(CodeInvalidPayload)},
		"lengths that differ":         {"\x00\x05\x00\x00\x00hello\x00", fails(CodeInvalidPayload)},
		"distance before the start":   {"\x4b\x04\x12\x00", fails(CodeInvalidPayload)},
		"the marker was not left out": {whole + syncMarker, fails(CodeInvalidPayload)},
		"BFINAL, nothing behind":      {final, bin("first ")},
		"BFINAL, more behind":         {final + compressed(t, 6, "second"), bin("first second")},
		"BFINAL twice":                {final + final + "\x00", bin("first first ")},
		"BFINAL, garbage behind":      {final + "\x06", fails(CodeInvalidPayload)},
	} {
		t.Run(name, func(t *testing.T) {
			checkDeflate(t, rawFrame(true, 0xC2, c.in), deflateLimits(true), []event{c.want})
		})
	}
}

// TestInflateLimit: a message may be as large as the limit, and is not inflated
// beyond it.
func TestInflateLimit(t *testing.T) {
	const limit = 10_000
	lim := deflateLimits(true)
	lim.MaxMessage = limit
	tooBig := event{violation, CodeTooBig, "compressed message inflates over the limit of 10000 bytes"}
	final := func(s string) string {
		var out bytes.Buffer
		w, _ := flate.NewWriter(&out, 9)
		_, _ = io.WriteString(w, s)
		_ = w.Close()
		return out.String()
	}
	exact, over := strings.Repeat("x", limit), strings.Repeat("x", limit+1)
	for name, c := range map[string]struct {
		in   string
		want event
	}{
		"at the limit":         {compressed(t, 9, exact), bin(exact)},
		"BFINAL, at the limit": {final(exact) + "\x00", bin(exact)},
		"one byte over":        {compressed(t, 9, over), tooBig},
		"in a second stream":   {final(exact) + final("x"), tooBig},
		"a bomb":               {compressed(t, 1, strings.Repeat("x", 4<<20)), tooBig},
		"not compressed":       {strings.Repeat("x", limit+1), fails(CodeTooBig)},
	} {
		t.Run(name, func(t *testing.T) { checkDeflate(t, rawFrame(true, 0xC2, c.in), lim, []event{c.want}) })
	}
	var f Inflater
	bomb := []byte(compressed(t, 1, strings.Repeat("x", 8<<20)))
	if _, fail := f.inflate(bomb, limit); fail == nil || fail.Code != CodeTooBig {
		t.Fatalf("8 MiB in %d bytes: %v", len(bomb), fail)
	}
	z, _ := f.idle.Get().(*inflating) // with the race detector a pool forgets some
	if z != nil && z.source.at > len(bomb)/20 {
		t.Errorf("%d of the bomb's %d bytes were read for %d bytes", z.source.at, len(bomb), limit)
	}
}

// TestIdleAfterDeflate: a Reader between two messages is idle, compressed or not.
func TestIdleAfterDeflate(t *testing.T) {
	r, lim := deflatingReader(), deflateLimits(true)
	if !r.Idle() {
		t.Error("not idle before the first message")
	}
	in := rawFrame(true, 0xC1, compressed(t, 9, "abc"))
	feed(r, lim, [][]byte{in[:len(in)-1]})
	if r.Idle() {
		t.Error("idle within a compressed message")
	}
	if got := feed(r, lim, [][]byte{in[:0]}); got != nil {
		t.Errorf("got %v", got)
	}
	if got := feed(r, lim, [][]byte{in[len(in)-1:]}); len(got) != 1 || !r.Idle() || r.Buffered() != 0 {
		t.Errorf("after it: %v, idle %v, %d bytes held", got, r.Idle(), r.Buffered())
	}
}

// TestCompress: each message is judged on its own, and nothing but those that
// become smaller changes.
func TestCompress(t *testing.T) {
	const from = 100
	large, noise := strings.Repeat(`{"a":1}`, 100), randomText(500)
	frame := func(op Opcode, s string) string { return string(AppendFrame(nil, op, []byte(s))) }
	small := frame(Text, large[:from-1])
	for _, level := range []int{MinDeflateLevel, 6, MaxDeflateLevel} {
		d, err := NewDeflater(level, from)
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			in       string
			replaced int // messages that are compressed
		}{
			"nothing":                {"", 0},
			"small":                  {small, 0},
			"at the threshold":       {frame(Text, large[:from]), 1},
			"large":                  {frame(Text, large), 1},
			"very large":             {frame(Binary, strings.Repeat(large, 200)), 1},
			"does not become small":  {frame(Binary, noise), 0},
			"control frames":         {frame(Ping, large[:120]) + frame(Close, "\x03\xE8"+large[:100]), 0},
			"text with attachments":  {small + frame(Binary, large) + frame(Binary, noise) + frame(Binary, large) + small, 2},
			"attachments not at all": {frame(Text, large) + frame(Binary, noise), 1},
		} {
			in := []byte(c.in)
			out := d.Compress(in)
			if string(in) != c.in {
				t.Fatalf("level %d, %s: the input was changed", level, name)
			}
			if (out == nil) != (c.replaced == 0) || len(out) >= len(in) && out != nil {
				t.Errorf("level %d, %s: %d bytes became %d", level, name, len(in), len(out))
			}
			if out == nil {
				continue
			}
			lim := deflateLimits(false)
			if got, want := feed(deflatingReader(), lim, [][]byte{out}), readWhole(in, lim); !slices.Equal(got, want) {
				t.Errorf("level %d, %s: read %v, want %v", level, name, got, want)
			}
			if n := marked(out); n != c.replaced {
				t.Errorf("level %d, %s: %d messages compressed, want %d", level, name, n, c.replaced)
			}
		}
	}
	for _, level := range []int{-2, 0, 10} {
		if _, err := NewDeflater(level, from); err == nil {
			t.Errorf("level %d is accepted", level)
		}
	}
}

// randomText is text that does not become smaller.
func randomText(n int) string {
	rng := rand.New(rand.NewPCG(3, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b)
}

// marked counts the frames with RSV1.
func marked(frames []byte) (n int) {
	for len(frames) > 0 {
		if frames[0]&bitDeflated != 0 {
			n++
		}
		h := decodeHeader(frames[:headerLength(frames[1])])
		frames = frames[int(h.size)+int(h.length):]
	}
	return n
}

// FuzzInflate inflates anything, in chunks and whole, and compares with
// compress/flate where that has one stream to the end.
func FuzzInflate(f *testing.F) {
	for _, level := range []int{0, 1, 9} {
		f.Add([]byte(compressed(f, level, strings.Repeat("fuzz ", 30))), true, uint64(level))
	}
	f.Add([]byte("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), false, uint64(3))
	f.Add([]byte("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), false, uint64(4))
	f.Add([]byte("\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00"), true, uint64(5))
	f.Fuzz(func(t *testing.T, p []byte, server bool, seed uint64) {
		lim := deflateLimits(server)
		lim.MaxMessage = 1000
		in := rawFrame(server, 0xC2, string(p))
		whole := feed(deflatingReader(), lim, [][]byte{in})
		if len(whole) != 1 {
			t.Fatalf("%v", whole)
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		if got := feed(deflatingReader(), lim, randomChunks(in, rng, 1+rng.IntN(50))); !slices.Equal(got, whole) {
			t.Fatalf("in chunks %v, whole %v", got, whole)
		}
		checkPromises(t, whole[0], true, lim)
		if len(p) > lim.MaxMessage {
			return
		}
		// The reference knows one stream only, and no end but BFINAL or a cut.
		ref := bytes.NewReader(append(bytes.Clone(p), syncMarker...))
		out, err := io.ReadAll(io.LimitReader(flate.NewReader(ref), int64(lim.MaxMessage)+1))
		switch e := whole[0]; {
		case len(out) > lim.MaxMessage:
			if e.code != CodeTooBig {
				t.Fatalf("got %v for more than %d bytes", e, lim.MaxMessage)
			}
		case errors.Is(err, io.ErrUnexpectedEOF) && ref.Len() == 0 && e.op != violation && e.data != string(out):
			t.Fatalf("got %v, want %q", e, out)
		case err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && e.op != violation:
			t.Fatalf("got %v, want an error as %v", e, err)
		case e.op != violation && !strings.HasPrefix(e.data, string(out)):
			t.Fatalf("got %v, want %q at its start", e, out)
		}
	})
}

// FuzzCompress reads what a Deflater made of messages: they are the same.
func FuzzCompress(f *testing.F) {
	f.Add([]byte("Hello, Hello, Hello"), []byte{1, 2, 3}, uint16(5), 1, uint64(1))
	f.Add(bytes.Repeat([]byte("{\"key\":1234},"), 100), bytes.Repeat([]byte{0}, 300), uint16(20), 6, uint64(2))
	f.Add([]byte(randomText(3000)), []byte("x"), uint16(0), 9, uint64(3))
	levels := map[int]*Deflater{} // kept, because a new one is slow
	f.Fuzz(func(t *testing.T, first, second []byte, from uint16, level int, seed uint64) {
		d := levels[level]
		if d == nil {
			var err error
			if d, err = NewDeflater(level, 0); err != nil {
				return
			}
			levels[level] = d
		}
		d.from = int(from)
		frames := AppendFrame(nil, Binary, first)
		frames = AppendFrame(frames, Ping, first[:min(len(first), maxControl)])
		frames = AppendFrame(frames, Binary, second)
		lim := deflateLimits(false)
		out := d.Compress(frames)
		if out == nil {
			return
		}
		if len(out) >= len(frames) {
			t.Fatalf("%d bytes became %d", len(frames), len(out))
		}
		want := readWhole(bytes.Clone(frames), lim)
		rng := rand.New(rand.NewPCG(seed, 0))
		for _, chunks := range [][][]byte{{out}, randomChunks(out, rng, 1+len(out)/3)} {
			if got := feed(deflatingReader(), lim, chunks); !slices.Equal(got, want) {
				t.Fatalf("read %v, want %v", got, want)
			}
		}
	})
}
