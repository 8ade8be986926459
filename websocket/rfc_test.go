package websocket

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

// The examples of RFC 6455 section 5.7.
var (
	rfcHello       = []byte{0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}
	rfcMaskedHello = []byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}
	rfcFragments   = []byte{0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f}
	rfcPing        = []byte{0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}
	rfcMaskedPong  = []byte{0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}
	rfc256         = []byte{0x82, 0x7E, 0x01, 0x00}
	rfc64K         = []byte{0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0}
)

func TestRFCExamplesRead(t *testing.T) {
	zeros := strings.Repeat("\x00", 65536)
	server, client := &Limits{Server: true}, &Limits{}
	check(t, rfcHello, client, []event{text("Hello")})
	check(t, rfcMaskedHello, server, []event{text("Hello")})
	check(t, rfcFragments, client, []event{text("Hello")})
	check(t, rfcPing, client, []event{ping("Hello")})
	check(t, rfcMaskedPong, server, []event{pong("Hello")})
	check(t, append(bytes.Clone(rfc256), zeros[:256]...), client, []event{bin(zeros[:256])})
	check(t, append(bytes.Clone(rfc64K), zeros...), client, []event{bin(zeros)})
}

func TestRFCExamplesWritten(t *testing.T) {
	zeros := make([]byte, 65536)
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	fragments := AppendHeader(nil, Text, false, 3)
	fragments = append(fragments, "Hel"...)
	fragments = AppendHeader(fragments, Continuation, true, 2)
	fragments = append(fragments, "lo"...)
	for _, tt := range []struct {
		name      string
		got, want []byte
	}{
		{"hello", AppendFrame(nil, Text, []byte("Hello")), rfcHello},
		{"behind other bytes", AppendFrame([]byte("x"), Text, []byte("Hello")), append([]byte("x"), rfcHello...)},
		{"masked hello", AppendMaskedFrame(nil, Text, []byte("Hello"), key), rfcMaskedHello},
		{"fragments", fragments, rfcFragments},
		{"ping", AppendFrame(nil, Ping, []byte("Hello")), rfcPing},
		{"masked pong", AppendMaskedFrame(nil, Pong, []byte("Hello"), key), rfcMaskedPong},
		{"256 bytes", AppendFrame(nil, Binary, zeros[:256])[:4], rfc256},
		{"64 KiB", AppendFrame(nil, Binary, zeros)[:10], rfc64K},
		{"close", AppendClose(nil, CodeNormal, "bye"), []byte("\x88\x05\x03\xE8bye")},
		{"close without a code", AppendClose(nil, CodeNoStatus, "bye"), []byte{0x88, 0}},
		{"close with a code that is never sent", AppendClose(nil, CodeAbnormal, "bye"), []byte{0x88, 0}},
		{"close, reason not UTF-8", AppendClose(nil, CodeNormal, "a\xFFb"), []byte("\x88\x07\x03\xE8a\uFFFDb")},
	} {
		if !bytes.Equal(tt.got, tt.want) {
			t.Errorf("%s: got % x, want % x", tt.name, tt.got, tt.want)
		}
	}
}

func TestFrameSize(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, 70000} {
		frame := AppendFrame(nil, Binary, make([]byte, n))
		if FrameSize(n) != len(frame) {
			t.Errorf("FrameSize(%d) = %d, the frame has %d", n, FrameSize(n), len(frame))
		}
	}
}

// TestCloseReasonIsCut reads back what AppendClose wrote: whatever the reason,
// it must be a close frame that a Reader accepts.
func TestCloseReasonIsCut(t *testing.T) {
	for _, reason := range []string{
		strings.Repeat("a", 123), strings.Repeat("a", 124), strings.Repeat("\u20ac", 41), strings.Repeat("\u20ac", 42),
		"a" + strings.Repeat("\u20ac", 50), "ab" + strings.Repeat("\U0001F600", 50), strings.Repeat("\xFF", 200), "x" + strings.Repeat("\xFFy", 62),
	} {
		events := readWhole(AppendClose(nil, CodePolicy, reason), &Limits{})
		if len(events) != 1 || events[0].op != Close || events[0].code != CodePolicy {
			t.Fatalf("%q: read back as %v", reason, events)
		}
		got := events[0].data
		want := strings.ToValidUTF8(reason, "\uFFFD")
		if !strings.HasPrefix(want, got) || len(want) > 123 && len(got) < 123-utf8.UTFMax+1 || len(want) <= 123 && got != want {
			t.Errorf("%q: reason read back as %q", reason, got)
		}
	}
}

func TestMaskAtEveryOffsetAndLength(t *testing.T) {
	key := [4]byte{0x12, 0x34, 0x56, 0x78}
	for n := range 80 {
		for offset := range 9 {
			for _, align := range []int{0, 1, 3} {
				p := bytes.Repeat([]byte{0xA5, 0x00, 0xFF}, 40)[align : align+n+1]
				want := bytes.Clone(p)
				for i := range n {
					want[i] ^= key[(offset+i)&3]
				}
				mask(p[:n], 0x78563412, offset)
				if !bytes.Equal(p, want) {
					t.Fatalf("%d bytes at offset %d: got % x, want % x", n, offset, p, want)
				}
			}
		}
	}
}

func TestSendingFramesCostsNoAllocation(t *testing.T) {
	payload := bytes.Repeat([]byte("p"), 300)
	dst := make([]byte, 0, 1024)
	allocs := testing.AllocsPerRun(20, func() {
		AppendFrame(dst, Text, payload)
		AppendMaskedFrame(dst, Text, payload, [4]byte{1, 2, 3, 4})
		AppendClose(dst, CodeGoingAway, "shutting down")
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

func TestErrorText(t *testing.T) {
	events := readWhole([]byte{0xC1}, &Limits{Server: true})
	if len(events) != 1 || events[0].data != "reserved bits set: 0x40" {
		t.Errorf("got %v", events)
	}
	err := &Error{Code: CodeTooBig, Text: "message over the limit of 5 bytes"}
	if got := err.Error(); got != "websocket: message over the limit of 5 bytes (close code 1009)" {
		t.Errorf("got %q", got)
	}
}
