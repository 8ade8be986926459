package main

import (
	"encoding/json"
	"testing"
	"time"
)

func TestTickets(t *testing.T) {
	now := time.Unix(1_000, 0)
	tickets := newTickets(func() time.Time { return now })
	ada, bob := tickets.issue("ada"), tickets.issue("bob")
	if len(ada) != ticketChars || ada == bob {
		t.Fatalf("tickets %q and %q", ada, bob)
	}
	now = now.Add(ticketLife - 1)
	for _, c := range []struct {
		auth, user string
	}{
		{`{"ticket":"` + ada + `"}`, "ada"},
		{`{"ticket":"` + bob + `","pid":"p"}`, "bob"},
		{`{"ticket":"` + ada + `x"}`, ""},
		{`{"ticket":""}`, ""},
		{`{"ticket":["` + ada + `"]}`, ""},
		{`{"userId":"ada"}`, ""},
		{`"` + ada + `"`, ""},
		{``, ""},
	} {
		user, ok := tickets.of(json.RawMessage(c.auth))
		if user != c.user || ok != (c.user != "") {
			t.Errorf("auth %s: %q, %v", c.auth, user, ok)
		}
	}
	now = now.Add(1)
	if user, ok := tickets.user(ada); ok {
		t.Errorf("a ticket that ran out lets %q in", user)
	}
	if _, ok := tickets.of(json.RawMessage(`{"ticket":"` + ada + `"}`)); ok {
		t.Error("the same in an auth object")
	}
}

func TestTicketsAreBounded(t *testing.T) {
	now := time.Unix(1_000, 0)
	tickets := newTickets(func() time.Time { return now })
	for range maxTickets {
		if tickets.issue("ada") == "" {
			t.Fatal("refused too early")
		}
	}
	if tickets.issue("ada") != "" {
		t.Error("more than may be")
	}
	now = now.Add(ticketLife)
	if tickets.issue("ada") == "" || len(tickets.issued) != 1 {
		t.Errorf("%d tickets are kept although all but one ran out", len(tickets.issued))
	}
}
