package trunk

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/metrics"
)

// said is a connection on which the peer says what was written down, whatever it is told.
type said struct {
	in  io.Reader
	out bytes.Buffer
}

func (s *said) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *said) Write(p []byte) (int, error) { return s.out.Write(p) }

// FuzzGreet: nobody is let in who does not know the secret, and nobody is given a
// proof to try secrets on, whatever it says.
func FuzzGreet(f *testing.F) {
	var t transcript
	copy(t.dialer[:], nodeB)
	copy(t.wanted[:], nodeA)
	f.Add(slices.Concat([]byte(magic), t.theirs[:], t.dialer[:], t.wanted[:], t.proof([]byte(secret), roleDialer, 0)))
	f.Add(slices.Concat([]byte(magic), make([]byte, helloBytes-len(magic))))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, hello []byte) {
		rw := &said{in: bytes.NewReader(hello)}
		peer, err := greet(rw, nodeA, []byte(secret), func() bool { return false })
		if err == nil || peer != "" {
			t.Fatalf("%q was let in as %q, %v", hello, peer, err)
		}
		if answer := rw.out.Bytes()[greetingBytes:]; len(answer) > 0 && !bytes.Equal(answer, append([]byte{statusSecret}, make([]byte, proofBytes)...)) {
			t.Errorf("answered %x", answer)
		}
		if wrote := rw.out.Len(); wrote > greetingBytes+verdictBytes {
			t.Errorf("%d bytes were written", wrote)
		}
	})
}

// FuzzIntroduce: what listens there is no peer unless it proves the secret, and it
// learns no more than what is sent to anybody.
func FuzzIntroduce(f *testing.F) {
	greeting := append([]byte(magic), make([]byte, nonceBytes)...)
	for _, status := range []byte{statusOK, statusSecret, statusNode, statusEnding, 9} {
		f.Add(slices.Concat(greeting, []byte{status}, make([]byte, proofBytes)))
	}
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		rw := &said{in: bytes.NewReader(answer)}
		err := introduce(rw, nodeA, nodeB, []byte(secret))
		if err == nil || !errors.Is(err, ErrRefused) && !errors.Is(err, ErrUnreachable) {
			t.Fatalf("%q: %v", answer, err)
		}
		if n := rw.out.Len(); n != 0 && n != helloBytes {
			t.Errorf("%d bytes were sent", n)
		}
	})
}

// FuzzTrunk: whatever frames a peer sends, each stream is told of what is for it
// and of its end once, and nothing panics.
func FuzzTrunk(f *testing.F) {
	f.Add(slices.Concat(appendFrame(nil, 1|opening, 3, []byte("a")), appendFrame(nil, 1, 4, []byte("b")), appendFrame(nil, 1, closing, nil), appendFrame(nil, 1, 5, nil)), false)
	f.Add(slices.Concat(appendFrame(nil, 1|opening, 3, nil), appendFrame(nil, 1|opening, 3, nil)), false)
	f.Add(slices.Concat(appendFrame(nil, 0, heartbeat, nil), appendFrame(nil, 0, goodbye, nil), appendFrame(nil, 1|opening, 3, nil)), false)
	f.Add(slices.Concat(appendFrame(nil, 0, 7, nil)), true)
	f.Add(slices.Concat(appendFrame(nil, opening, 3, nil)), false)
	f.Add(slices.Concat(appendFrame(nil, 1, 3, []byte("x")), appendFrame(nil, 1, closing, nil)), true)
	f.Fuzz(func(t *testing.T, frames []byte, dialled bool) {
		var all []*tally
		home := New(Config{
			Node: nodeA, Secret: func() []byte { return []byte(secret) }, Log: slog.New(slog.DiscardHandler),
			Accept: func(s *Stream, kind byte, _ []byte) Receiver {
				if kind%4 == 3 {
					return nil
				}
				r := &tally{t: t}
				all = append(all, r)
				return r
			},
		}, metrics.New(prometheus.NewRegistry(), "test"))
		near, far := net.Pipe()
		defer near.Close()
		k := newTrunk(home, near, nodeB, dialled)
		if dialled {
			r := &tally{t: t}
			all = append(all, r)
			if k.open(r) == nil {
				t.Fatal("no stream")
			}
		}
		done := make(chan struct{})
		go func() { k.read(); close(done) }()
		_, _ = far.Write(frames) // it may be hung up on
		_ = far.Close()
		<-done
		for i, r := range all {
			if r.broken != 1 {
				t.Errorf("stream %d was told %d times that it is over", i, r.broken)
			}
		}
	})
}

// tally is a receiver that counts.
type tally struct {
	t      *testing.T
	broken int
}

func (r *tally) Receive(byte, []byte) {
	if r.broken > 0 {
		r.t.Error("a message after the end")
	}
}

func (r *tally) Broken(error) { r.broken++ }
