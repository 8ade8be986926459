package socketio

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

func TestParseOffset(t *testing.T) {
	for text, want := range map[string]Offset{
		"AAAAAAAA.0-0":                    {"AAAAAAAA", 0, 0},
		"ab_-09zZ.1700000000000-12":       {"ab_-09zZ", 1700000000000, 12},
		"ABCDEFGH.18446744073709551615-1": {"ABCDEFGH", math.MaxUint64, 1},
		"ABCDEFGH.1-18446744073709551615": {"ABCDEFGH", 1, math.MaxUint64},
	} {
		got, ok := ParseOffset(text)
		if !ok || got != want {
			t.Errorf("%s is read as %v, %v", text, got, ok)
		}
		if got.String() != text {
			t.Errorf("%s is written as %s", text, got)
		}
	}
	for _, text := range []string{
		"", ".", "-", "AAAAAAAA", "AAAAAAAA.", "AAAAAAAA.1", "AAAAAAAA.1-", "AAAAAAAA.-1", "AAAAAAAA.1-1-1", "AAAAAAA.1-1",
		"AAAAAAAAA.1-1", "AAAA AAA.1-1", "AAAAAAA+.1-1", "AAAAAAA/.1-1", "AAAAAAA=.1-1", "AAAAAAAA.01-1", "AAAAAAAA.1-01", "AAAAAAAA.+1-1",
		"AAAAAAAA.1-+1", "AAAAAAAA. 1-1", "AAAAAAAA.1-1 ", "AAAAAAAA.1_0-1", "AAAAAAAA.0x1-1", "AAAAAAAA.18446744073709551616-1",
		"AAAAAAAA.--1-1", "AAAAAAAA:1-1", "\x00AAAAAAA.1-1", "[AAAAAAA.1-1", "`AAAAAAA.1-1", "{AAAAAAA.1-1", "@AAAAAAA.1-1", "AÄAAAAA.1-1", "AAAAAAAA.1-٣",
	} {
		if got, ok := ParseOffset(text); ok {
			t.Errorf("%q is read as %v", text, got)
		}
	}
	if got := (Offset{}).String(); got != "" || !(Offset{}).IsZero() {
		t.Errorf("no offset is %q", got)
	}
}

func TestOffsetAfter(t *testing.T) {
	a := Offset{"AAAAAAAA", 5, 5}
	for _, c := range []struct {
		o    Offset
		want bool
	}{
		{Offset{"AAAAAAAA", 5, 6}, true}, {Offset{"AAAAAAAA", 6, 0}, true}, {a, false}, {Offset{"AAAAAAAA", 5, 4}, false},
		{Offset{"AAAAAAAA", 4, 9}, false}, {Offset{"BBBBBBBB", 9, 9}, false}, {Offset{}, false},
	} {
		if got := c.o.After(a); got != c.want {
			t.Errorf("%v after %v: %v", c.o, a, got)
		}
	}
}

// The very bytes that the publish script and Node.js see.
func TestEntryGolden(t *testing.T) {
	b := Broadcast{UID: "uid", Namespace: "/", Data: []byte{0x91, 0xa1, 'm'}, Rooms: []string{"r"}, Journal: true}
	const head = "\x93\xa3uid\x83\xa4type\x02\xa4data\x91\xa1m\xa3nsp\xa1/\x84\xa5rooms\x91\xa1r\xa6except\x90\xa5flags\x80\xa5entry"
	payload := AppendBroadcast(nil, &b)
	if want := head + "\xc0"; string(payload) != want {
		t.Fatalf("journalled payload is %q, want %q", payload, want)
	}
	if o, ok := EntryOf(payload); ok {
		t.Errorf("a payload without a position has %v", o)
	}
	o := Offset{"ab_-09zZ", 1700000000000, 12}
	set := SetEntry([]byte("before"), payload, o)
	if want := "before" + head + "\xb9ab_-09zZ.1700000000000-12"; string(set) != want {
		t.Errorf("with its position it is %q, want %q", set, want)
	}
	if got, ok := EntryOf(set); !ok || got != o {
		t.Errorf("the position read is %v, %v", got, ok)
	}
	b.Entry = o.String()
	if direct := AppendBroadcast([]byte("before"), &b); !bytes.Equal(direct, set) {
		t.Errorf("written at once it is %q", direct)
	}
	var parsed Broadcast
	if err := ParseBroadcast(set[len("before"):], &parsed); err != nil || parsed.Entry != o.String() {
		t.Errorf("parsed is %q, %v", parsed.Entry, err)
	}
}

// The longest position of any clock to come is a short string of MessagePack.
func TestLongestEntry(t *testing.T) {
	payload := AppendBroadcast(nil, &Broadcast{UID: "u", Data: []byte{0x91, 0xa1, 'm'}, Journal: true})
	for _, o := range []Offset{{"AAAAAAAA", 0, 0}, {"AAAAAAAA", 9_999_999_999_999, 99_999_999}, {"AAAAAAAA", 99_999_999_999_999, 9_999_999}} {
		set := SetEntry(nil, payload, o)
		if got, ok := EntryOf(set); !ok || got != o {
			t.Errorf("%v is read as %v, %v", o, got, ok)
		}
	}
}

func TestEntryOfOthers(t *testing.T) {
	plain := AppendBroadcast(nil, &Broadcast{UID: "u", Data: []byte{0x91, 0xa1, 'm'}})
	for name, payload := range map[string][]byte{
		"nothing": nil, "plain": plain,
		"with seq":     AppendBroadcast(nil, &Broadcast{UID: "u", Data: []byte{0x91, 0xa1, 'm'}, Seq: 77}),
		"cut off":      []byte("\xa5entry\xb9ab_-09zZ.1700000000000-1"),
		"another name": []byte("\xa5Entry\xb9ab_-09zZ.1700000000000-12"),
		"no position":  []byte("\xa5entry\xacAAAAAAAA.1_1"),
		"long string":  []byte("\xa5entry\xd9\x19ab_-09zZ.1700000000000-12"),
		"in front":     append([]byte("\xa5entry\xacAAAAAAAA.1-1"), plain...),
		"text only":    []byte(strings.Repeat("x", 100)),
	} {
		if o, ok := EntryOf(payload); ok {
			t.Errorf("%s: has the position %v", name, o)
		}
	}
}

func FuzzParseOffset(f *testing.F) {
	for _, s := range []string{"AAAAAAAA.0-0", "ab_-09zZ.1700000000000-12", "AAAAAAAA.01-1", "AAAAAAAA.1-1-1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, ok := ParseOffset(s)
		if ok && o.String() != s {
			t.Errorf("%q is written back as %q", s, o)
		}
		if id, okID := ParseEntryID(s); okID && string(id.AppendID(nil)) != s {
			t.Errorf("id %q is written back as %q", s, id.AppendID(nil))
		}
	})
}

func FuzzEntry(f *testing.F) {
	f.Add([]byte("\xa5entry\xb9ab_-09zZ.1700000000000-12"), uint64(1700000000000), uint64(12))
	f.Add(AppendBroadcast(nil, &Broadcast{UID: "u", Data: []byte{0x91, 0xa1, 'm'}, Journal: true}), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, payload []byte, ms, seq uint64) {
		if o, ok := EntryOf(payload); ok {
			text := o.String()
			if !strings.HasSuffix(string(payload), entryName+string([]byte{0xa0 | byte(len(text))})+text) {
				t.Errorf("%q is said to end with %s", payload, text)
			}
		}
		if len(payload) == 0 || payload[len(payload)-1] != 0xc0 || !bytes.HasSuffix(payload[:len(payload)-1], []byte(entryName)) {
			return
		}
		o := Offset{"AAAAAAAA", ms, seq}
		set := SetEntry(nil, payload, o)
		got, ok := EntryOf(set)
		if short := len(o.String()) < 32; short != ok || ok && got != o {
			t.Errorf("%v is read as %v, %v", o, got, ok)
		}
		if !bytes.HasPrefix(set, payload[:len(payload)-1]) {
			t.Error("what is before the position changed")
		}
	})
}
