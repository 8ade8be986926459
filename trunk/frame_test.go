package trunk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

// chunked gives at most size bytes per Read.
type chunked struct {
	rest []byte
	size int
}

func (c *chunked) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.rest[:min(len(c.rest), c.size)])
	c.rest = c.rest[n:]
	return n, nil
}

func TestDecoder(t *testing.T) {
	sizes := []int{0, 1, 100, readBytes - headerBytes, readBytes - headerBytes + 1, readBytes, 5, 1 << 20, 0, 3<<20 + 7, 1}
	var wire []byte
	for i, n := range sizes {
		wire = appendFrame(wire, uint64(i)+1<<62, byte(i), bytes.Repeat([]byte{byte(i)}, n))
	}
	for _, chunk := range []int{1, 7, 1000, readBytes, 1 << 30} {
		d := newDecoder(&chunked{wire, chunk})
		for i, n := range sizes {
			f, err := d.next()
			if err != nil {
				t.Fatalf("chunks of %d: frame %d: %v", chunk, i, err)
			}
			if f.stream != uint64(i)+1<<62 || f.kind != byte(i) || !bytes.Equal(f.payload, bytes.Repeat([]byte{byte(i)}, n)) {
				t.Fatalf("chunks of %d: frame %d is wrong", chunk, i)
			}
		}
		if _, err := d.next(); err != io.EOF {
			t.Errorf("chunks of %d: at the end %v", chunk, err)
		}
	}
}

func TestDecoderErrors(t *testing.T) {
	whole := appendFrame(nil, 1, 2, []byte("payload"))
	for n := 1; n < len(whole); n++ {
		if _, err := newDecoder(bytes.NewReader(whole[:n])).next(); err != io.ErrUnexpectedEOF {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
	huge := binary.BigEndian.AppendUint32(nil, MaxMessage+1)
	huge = append(huge, whole[4:]...)
	if _, err := newDecoder(bytes.NewReader(huge)).next(); !errors.Is(err, errProtocol) {
		t.Errorf("a frame above the bound: %v", err)
	}
}

// TestDecoderBuffer: the buffer grows with what arrives, whatever is announced,
// and shrinks again.
func TestDecoderBuffer(t *testing.T) {
	lying := binary.BigEndian.AppendUint32(nil, MaxMessage)
	d := newDecoder(bytes.NewReader(append(lying, make([]byte, 9+1000)...)))
	if _, err := d.next(); err != io.ErrUnexpectedEOF || len(d.buf) > readBytes {
		t.Errorf("%v with a buffer of %d bytes", err, len(d.buf))
	}

	wire := appendFrame(nil, 1, 1, make([]byte, 1<<20))
	for range keepReads + 2 {
		wire = appendFrame(wire, 1, 1, make([]byte, 10))
	}
	d = newDecoder(&chunked{wire, headerBytes + 10})
	if _, err := d.next(); err != nil || len(d.buf) < 1<<20 {
		t.Fatalf("%v with a buffer of %d bytes", err, len(d.buf))
	}
	for range keepReads + 2 {
		if _, err := d.next(); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.buf) != readBytes {
		t.Errorf("a buffer of %d bytes after small frames", len(d.buf))
	}
}

func TestDecoderDoesNotAllocate(t *testing.T) {
	wire := appendFrame(nil, 1, 1, make([]byte, 100))
	src := &chunked{size: 1 << 30}
	d := newDecoder(src)
	if n := testing.AllocsPerRun(1000, func() {
		src.rest = wire
		if _, err := d.next(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}

// FuzzDecoder: any bytes, in any pieces, are the frames that a plain parser finds.
func FuzzDecoder(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, 1|opening, 3, []byte("abc")), 0, 0, nil), 1)
	f.Add(appendFrame(nil, 7, 1, make([]byte, 70_000))[:66_000], 4096)
	f.Add([]byte{255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 5)
	f.Fuzz(func(t *testing.T, wire []byte, chunk int) {
		d := newDecoder(&chunked{wire, max(chunk, 1)})
		rest := wire
		for {
			got, err := d.next()
			if len(rest) == 0 {
				if err != io.EOF {
					t.Fatalf("at the end: %v", err)
				}
				return
			}
			if len(rest) >= headerBytes && binary.BigEndian.Uint32(rest) > MaxMessage {
				if !errors.Is(err, errProtocol) {
					t.Fatalf("too large: %v", err)
				}
				return
			}
			if len(rest) < headerBytes || len(rest)-headerBytes < int(binary.BigEndian.Uint32(rest)) {
				if err != io.ErrUnexpectedEOF {
					t.Fatalf("cut: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			n := headerBytes + len(got.payload)
			if !bytes.Equal(appendFrame(nil, got.stream, got.kind, got.payload), rest[:n]) {
				t.Fatalf("got %v of %x", got, rest)
			}
			rest = rest[n:]
		}
	})
}
