package socketio

import (
	"errors"
	"fmt"
)

// DefaultAssemblyLimit is the number of bytes an Assembler with Limit 0 holds.
const DefaultAssemblyLimit = 4 << 20

// Assembler puts a binary packet together: Begin with the text, Add for each binary message that follows, and when Add
// reports done, Packet and Attachments. The zero value is ready. It copies what it is given, so the caller's buffers may
// be reused, and it must be used by one goroutine at a time.
type Assembler struct {
	Limit int // bytes held at most: namespace, data and attachments together; 0 means DefaultAssemblyLimit

	packet      Packet
	attachments [][]byte
	held        int // bytes
}

// Begin takes the text of a binary packet as Parse returned it and checks its placeholders. It fails if the packet is
// not of a binary type, if another packet still waits for attachments, or if the text alone exceeds the limit; the
// Assembler is then empty.
func (a *Assembler) Begin(header Packet) error {
	if a.Pending() {
		a.Reset()
		return errors.New("socketio: text packet while attachments are awaited")
	}
	a.Reset()
	if !header.Type.Binary() || header.Attachments < 1 {
		return fmt.Errorf("socketio: %v packet has no attachments", header.Type)
	}
	if err := CheckPlaceholders(header.Data, header.Attachments); err != nil {
		return err
	}
	if err := a.hold(len(header.Namespace) + len(header.Data)); err != nil {
		return err
	}
	text := make([]byte, 0, len(header.Namespace)+len(header.Data))
	text = append(append(text, header.Namespace...), header.Data...)
	n := len(header.Namespace)
	a.packet = header
	a.packet.Namespace = text[:n:n]
	if header.Data != nil {
		a.packet.Data = text[n:]
	}
	a.attachments = make([][]byte, 0, header.Attachments)
	return nil
}

// Add takes the next attachment, which may be empty, and reports whether it was the last. It fails if none is awaited or
// if the limit is exceeded; the Assembler is then empty.
func (a *Assembler) Add(attachment []byte) (done bool, err error) {
	if !a.Pending() {
		return false, errors.New("socketio: binary message while no attachment is awaited")
	}
	if err := a.hold(len(attachment)); err != nil {
		a.Reset()
		return false, err
	}
	a.attachments = append(a.attachments, append(make([]byte, 0, len(attachment)), attachment...))
	return !a.Pending(), nil
}

// hold accounts for n further bytes.
func (a *Assembler) hold(n int) error {
	limit := a.Limit
	if limit <= 0 {
		limit = DefaultAssemblyLimit
	}
	if n > limit-a.held {
		return fmt.Errorf("socketio: binary packet exceeds %d bytes", limit)
	}
	a.held += n
	return nil
}

// Pending reports whether a packet has begun and still waits for attachments. While it does, a text packet is a
// protocol error.
func (a *Assembler) Pending() bool { return len(a.attachments) < a.packet.Attachments }

// Held returns the number of bytes held.
func (a *Assembler) Held() int { return a.held }

// Packet returns the packet that has begun; its slices are the Assembler's own and are not reused by it.
func (a *Assembler) Packet() Packet { return a.packet }

// Attachments returns the attachments added so far, in order; they too are never reused.
func (a *Assembler) Attachments() [][]byte { return a.attachments }

// Reset forgets the packet and frees what was held.
func (a *Assembler) Reset() { *a = Assembler{Limit: a.Limit} }
