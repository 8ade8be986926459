package hostile

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"
)

// Plan is what a process of attackers is told.
type Plan struct {
	Addr    string        // of the node
	For     time.Duration // how long
	Rate    float64       // attacks that begin per second
	Most    int           // of them at a time; beyond it none begins
	Hold    time.Duration // the longest that one attack lasts
	Sources int           // addresses 127.0.x.y they come from
	Secret  string        // with which attackers who are users sign their tokens; empty if nobody has one
	Room    string        // in which others talk
	Payload int           // MAX_PAYLOAD of the node, in bytes
}

// Token is a token of a user, HS256 (RFC 7515, RFC 7518 section 3.2).
func Token(secret, user string) string {
	claims, _ := json.Marshal(map[string]string{"sub": user}) // strings can be marshalled
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Validate names what is wrong.
func (p *Plan) Validate() error {
	switch {
	case p.Rate <= 0 || p.Most < 1 || p.Hold <= 0 || p.For <= 0:
		return fmt.Errorf("hostile: rate %v, at most %d at a time, each for %v, for %v: all must be above 0", p.Rate, p.Most, p.Hold, p.For)
	case p.Sources < 1 || p.Sources > maxSources:
		return fmt.Errorf("hostile: %d sources, can be 1 to %d", p.Sources, maxSources)
	case p.Payload < 1000:
		return fmt.Errorf("hostile: a payload of %d bytes is below what nodes allow", p.Payload)
	}
	return nil
}

// maxSources is how many addresses of 127.0.0.0/16 are used: the first 250 of each of 250 networks, but for
// that of 127.0.0.1.
const maxSources = 250 * 250

// source is one of them.
func source(i int) string { return fmt.Sprintf("127.0.%d.%d", 1+i/250, 1+i%250) }

// kind is one way to attack.
type kind struct {
	name   string
	weight int // how often, against the others
	// holds is what one attack may make a node keep at a time, in bytes: buffers of its own making, and
	// the outbox.
	holds func(p *Plan) int
	do    func(a *attack) Outcome
}

// Bounds of what a node keeps of one connection.
const (
	headBytes   = 32 << 10 // before and during a request: what is read of it, and the goroutine
	outboxBytes = 4 << 20
	packetBytes = 1 << 20 // of one packet with its attachments
	sessionHeld = 32 << 10
)

func head(*Plan) int          { return headBytes }
func session(*Plan) int       { return sessionHeld }
func message(p *Plan) int     { return sessionHeld + 2*p.Payload } // and its copy while it grows
func attachments(p *Plan) int { return sessionHeld + packetBytes + 2*p.Payload }
func outbox(p *Plan) int      { return sessionHeld + outboxBytes + p.Payload }

// kinds are all ways to attack.
func kinds() []kind {
	return []kind{
		{"connection flood", 60, head, connectionFlood},
		{"silent connection", 6, head, silentConnection},
		{"partial request", 6, head, partialRequest},
		{"slow body", 4, func(p *Plan) int { return sessionHeld + headBytes }, slowBody},
		{"junk bytes", 20, head, junkBytes},
		{"oversized headers", 8, head, oversizedHeaders},
		{"malformed post", 20, session, malformedPost},
		{"oversized post", 6, message, oversizedPost},
		{"unknown session", 20, head, unknownSession},
		{"upgrade abuse", 8, session, upgradeAbuse},
		{"bad token", 30, session, badToken},
		{"bad frame", 20, session, badFrame},
		{"invalid UTF-8", 10, session, invalidUTF8},
		{"unfinished message", 4, message, unfinishedMessage},
		{"fragment flood", 2, message, fragmentFlood},
		{"unfinished attachments", 4, attachments, unfinishedAttachments},
		{"compression bomb", 4, message, compressionBomb},
		{"slow reader", 3, outbox, slowReader},
		{"hostile events", 15, session, hostileEvents},
	}
}

// choose picks a kind by weight.
func choose(all []kind) *kind {
	sum := 0
	for i := range all {
		sum += all[i].weight
	}
	n := rand.IntN(sum)
	for i := range all {
		if n -= all[i].weight; n < 0 {
			return &all[i]
		}
	}
	return &all[0]
}
