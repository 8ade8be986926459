package socketio

import (
	"bytes"
	"strings"
	"testing"
)

func mustParse(t testing.TB, text string) Packet {
	t.Helper()
	p, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAssembler(t *testing.T) {
	var a Assembler
	text := []byte(`52-/admin,7["m",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)
	header, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if a.Pending() {
		t.Fatal("pending before it began")
	}
	if err := a.Begin(header); err != nil || !a.Pending() {
		t.Fatal(err)
	}
	attachment := []byte{1, 2, 3}
	if done, err := a.Add(attachment); done || err != nil {
		t.Fatal(done, err)
	}
	// The input may be reused: everything was copied.
	clear(text)
	clear(attachment)
	if done, err := a.Add(nil); !done || err != nil {
		t.Fatal(done, err)
	}
	p := a.Packet()
	if p.Type != BinaryEvent || string(p.Namespace) != "/admin" || p.ID != 7 || !bytes.HasPrefix(p.Data, []byte(`["m",`)) {
		t.Errorf("packet %s", packetText(p))
	}
	if atts := a.Attachments(); len(atts) != 2 || !bytes.Equal(atts[0], []byte{1, 2, 3}) || len(atts[1]) != 0 {
		t.Errorf("attachments % x", atts)
	}
	if want := len("/admin") + len(p.Data) + 3; a.Held() != want {
		t.Errorf("holds %d bytes, want %d", a.Held(), want)
	}
	// Complete means ready for the next.
	if err := a.Begin(mustParse(t, `61-5[{"_placeholder":true,"num":0}]`)); err != nil || !a.Pending() {
		t.Fatal(err)
	}
	a.Reset()
	if a.Pending() || a.Held() != 0 || a.Attachments() != nil {
		t.Error("something left after Reset")
	}
}

func TestAssemblerErrors(t *testing.T) {
	expect := func(what string, err error, says string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", what, err, says)
		}
	}
	one := mustParse(t, `51-["m",{"_placeholder":true,"num":0}]`)
	var a Assembler
	_, err := a.Add([]byte{1})
	expect("stray binary", err, "no attachment is awaited")
	if err := a.Begin(one); err != nil {
		t.Fatal(err)
	}
	expect("text amid attachments", a.Begin(one), "attachments are awaited")
	if a.Pending() {
		t.Error("pending after an error")
	}
	if err := a.Begin(one); err != nil {
		t.Fatal(err)
	}
	if done, err := a.Add([]byte{1}); !done || err != nil {
		t.Fatal(done, err)
	}
	_, err = a.Add([]byte{1})
	expect("one binary too many", err, "no attachment is awaited")
	expect("event without attachments", a.Begin(mustParse(t, `2["m"]`)), "EVENT packet has no attachments")
	expect("bad num", a.Begin(mustParse(t, `51-["m",{"_placeholder":true,"num":1}]`)), "placeholder number 1")
	expect("too many", a.Begin(Packet{Type: BinaryEvent, Attachments: 11}), "11")

	a = Assembler{Limit: len(one.Data) + 1 + 10}
	if err := a.Begin(one); err != nil {
		t.Fatal(err)
	}
	_, err = a.Add(make([]byte, 11))
	expect("attachment over the limit", err, "exceeds")
	if a.Pending() || a.Held() != 0 || a.Limit == 0 {
		t.Error("state left after the limit")
	}
	if err := a.Begin(one); err != nil {
		t.Fatal(err)
	}
	if done, err := a.Add(make([]byte, 10)); !done || err != nil {
		t.Errorf("attachment at the limit: %v, %v", done, err)
	}
	a.Limit = 5
	expect("text over the limit", a.Begin(one), "exceeds 5 bytes")
	var unlimited Assembler
	if err := unlimited.Begin(one); err != nil {
		t.Fatal(err)
	}
	_, err = unlimited.Add(make([]byte, DefaultAssemblyLimit))
	expect("default limit", err, "exceeds")
}
