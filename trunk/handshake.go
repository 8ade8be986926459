package trunk

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// The handshake, before any frame. The node that was dialled speaks first:
//
//	listener  magic, nonce
//	dialer    magic, nonce, its name, the name it wants, proof
//	listener  status, proof
//
// A proof is an HMAC-SHA256 with the shared secret over who proves, the status
// and all that was said before: nobody can use one again, or send one back.
// All parts have a fixed size.
const (
	magic      = "edge-trunk/1"
	nonceBytes = 16
	proofBytes = sha256.Size
	nameBytes  = 8

	greetingBytes = len(magic) + nonceBytes
	helloBytes    = len(magic) + nonceBytes + 2*nameBytes + proofBytes
	verdictBytes  = 1 + proofBytes
)

// Who proves that it knows the secret.
const (
	roleDialer   = "edge-trunk/1 dialer"
	roleListener = "edge-trunk/1 listener"
)

// Statuses. All but statusSecret come with a proof.
const (
	statusOK     byte = 1
	statusSecret byte = 2 // the dialer's proof is wrong, or the listener has no secret yet
	statusNode   byte = 3 // another node listens here
	statusEnding byte = 4 // the node is shutting down
)

// Why the dialer was turned away, for the listener.
var (
	errSecret     = errors.New("trunk: the secret was not proved")
	errOtherNode  = errors.New("trunk: another node is wanted")
	errProtocol   = errors.New("trunk: protocol error")
	errEnding     = errors.New("trunk: this node is shutting down")
	errNoSecret   = errors.New("trunk: no shared secret yet")
	errPeerEnding = errors.New("trunk: the peer is shutting down")
)

// transcript is what both sides said.
type transcript struct {
	theirs, ours   [nonceBytes]byte // as the listener sees it
	dialer, wanted [nameBytes]byte
}

// proof is what role proves it knows secret with.
func (t *transcript) proof(secret []byte, role string, status byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(role))
	mac.Write([]byte{0, status})
	mac.Write(t.ours[:])
	mac.Write(t.theirs[:])
	mac.Write(t.dialer[:])
	mac.Write(t.wanted[:])
	return mac.Sum(nil)
}

// greet is the listener's side of the handshake. It returns the name of the
// dialer, with errSecret, errOtherNode, errProtocol, errEnding, or the error of
// the connection.
func greet(rw io.ReadWriter, node string, secret []byte, ending func() bool) (peer string, err error) {
	var t transcript
	rand.Read(t.ours[:]) // never fails, see crypto/rand
	if _, err := rw.Write(append([]byte(magic), t.ours[:]...)); err != nil {
		return "", err
	}
	var hello [helloBytes]byte
	if _, err := io.ReadFull(rw, hello[:len(magic)]); err != nil {
		return "", err
	}
	if string(hello[:len(magic)]) != magic {
		return "", fmt.Errorf("%w: not a handshake", errProtocol)
	}
	if _, err := io.ReadFull(rw, hello[len(magic):]); err != nil {
		return "", err
	}
	rest := hello[len(magic):]
	rest = rest[copy(t.theirs[:], rest):]
	rest = rest[copy(t.dialer[:], rest):]
	rest = rest[copy(t.wanted[:], rest):]
	if len(secret) == 0 || !hmac.Equal(rest, t.proof(secret, roleDialer, 0)) {
		// Without a proof of its own: a stranger gets nothing to try secrets on.
		_, _ = rw.Write(append([]byte{statusSecret}, make([]byte, proofBytes)...))
		return "", errSecret
	}
	status, err := statusOK, nil
	switch {
	case string(t.wanted[:]) != node:
		status, err = statusNode, errOtherNode
	case ending():
		status, err = statusEnding, errEnding
	}
	if _, errWrite := rw.Write(append([]byte{status}, t.proof(secret, roleListener, status)...)); err == nil {
		err = errWrite
	}
	return string(t.dialer[:]), err
}

// introduce is the dialer's side of the handshake, for node, which wants peer.
// The errors are those of Trunks.Open.
func introduce(rw io.ReadWriter, node, peer string, secret []byte) error {
	var t transcript
	copy(t.dialer[:], node)
	copy(t.wanted[:], peer)
	var greeting [greetingBytes]byte
	if _, err := io.ReadFull(rw, greeting[:]); err != nil {
		return fmt.Errorf("%w: no greeting: %w", ErrUnreachable, err)
	}
	if string(greeting[:len(magic)]) != magic {
		return fmt.Errorf("%w: what listens there is no node", ErrRefused)
	}
	copy(t.ours[:], greeting[len(magic):])
	rand.Read(t.theirs[:])

	hello := append(make([]byte, 0, helloBytes), magic...)
	hello = append(hello, t.theirs[:]...)
	hello = append(hello, t.dialer[:]...)
	hello = append(hello, t.wanted[:]...)
	hello = append(hello, t.proof(secret, roleDialer, 0)...)
	if _, err := rw.Write(hello); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}

	var verdict [verdictBytes]byte
	if _, err := io.ReadFull(rw, verdict[:]); err != nil {
		return fmt.Errorf("%w: no answer to the handshake: %w", ErrUnreachable, err)
	}
	status := verdict[0]
	if status == statusSecret {
		return fmt.Errorf("%w: it has another secret, or none yet", ErrRefused)
	}
	if !hmac.Equal(verdict[1:], t.proof(secret, roleListener, status)) {
		return fmt.Errorf("%w: it does not prove the secret", ErrRefused)
	}
	switch status {
	case statusOK:
		return nil
	case statusNode:
		return fmt.Errorf("%w: another node has its address", ErrUnknown)
	case statusEnding:
		return fmt.Errorf("%w: it is shutting down", ErrUnreachable)
	}
	return fmt.Errorf("%w: status %d", ErrRefused, status)
}
