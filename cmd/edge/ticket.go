package main

import (
	"encoding/json"
	"sync"
	"time"
)

// Bounds of tickets.
const (
	ticketLife  = time.Minute
	ticketChars = 22 // of 6 random bits each
	maxTickets  = 1_000
)

// tickets let who has the operators' token be any user for a moment, from the
// console: browsers cannot send the token with a WebSocket, and it should not be in an
// address. Safe for concurrent use.
type tickets struct {
	now func() time.Time

	mu     sync.Mutex // guards issued; a leaf
	issued map[string]ticket
}

type ticket struct {
	user  string
	until time.Time
}

func newTickets(now func() time.Time) *tickets {
	return &tickets{now: now, issued: make(map[string]ticket)}
}

// issue returns a new ticket for a user, "" while too many are valid.
func (t *tickets) issue(user string) string {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for text, one := range t.issued { // few, and rarely: no reason to keep them in order
		if !now.Before(one.until) {
			delete(t.issued, text)
		}
	}
	if len(t.issued) >= maxTickets {
		return ""
	}
	text := randomID(ticketChars)
	t.issued[text] = ticket{user, now.Add(ticketLife)}
	return text
}

// user returns whom a ticket lets in; ok is false if it is none, or not valid any more.
func (t *tickets) user(text string) (user string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one, ok := t.issued[text]
	if !ok || !t.now().Before(one.until) {
		return "", false
	}
	return one.user, true
}

// of returns whom the auth object of a CONNECT packet names by a ticket; ok is false if
// it has none that is valid.
func (t *tickets) of(auth json.RawMessage) (user string, ok bool) {
	t.mu.Lock()
	none := len(t.issued) == 0
	t.mu.Unlock()
	if none { // as a rule: clients' auth objects are not taken apart for it
		return "", false
	}
	var claims struct {
		Ticket string `json:"ticket"`
	}
	if json.Unmarshal(auth, &claims) != nil || claims.Ticket == "" {
		return "", false
	}
	return t.user(claims.Ticket)
}
