package socketio

import "testing"

// chatEvent is a client event of 128 bytes.
const chatEvent = `212["message","room:general",{"text":"The quick brown fox jumps over the lazy dog - «и ещё раз»","seq":12345,"at":1.5}]`

func TestAllocations(t *testing.T) {
	if len(chatEvent) != 128 {
		t.Errorf("the event has %d bytes", len(chatEvent))
	}
	none := func(name string, run func()) {
		t.Helper()
		if n := testing.AllocsPerRun(200, run); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	event, binaryEvent := []byte(chatEvent), []byte(`52-/admin,5["a",{"b":{"_placeholder":true,"num":0},"c":[{"_placeholder":true,"num":1}]}]`)
	escaped := []byte(`2["conn\u0065cted","\ud83d\ude00"]`)
	none("Parse", func() {
		if _, err := Parse(event); err != nil {
			t.Fatal(err)
		}
	})
	none("Parse of a binary event", func() { Parse(binaryEvent) })
	none("Parse of an escaped name", func() { Parse(escaped) })

	p := mustParse(t, chatEvent)
	elements := make([][]byte, 0, 8)
	none("SplitArray", func() { elements, _ = SplitArray(p.Data, elements[:0]) })
	if len(elements) != 3 {
		t.Fatalf("%q", elements)
	}
	for _, first := range []string{`"message"`, `"caf\u00e9"`, `1.50`} {
		if n := testing.AllocsPerRun(200, func() { EventName([]byte(first)) }); n > 1 {
			t.Errorf("EventName of %s: %v allocations, want the name alone", first, n)
		}
	}
	buf := make([]byte, 0, 4096)
	none("AppendPacket", func() { AppendPacket(buf, &p) })
	none("AppendString", func() { AppendString(buf, "plain \"text\" é \xff") })
	none("AppendMsgpackFromJSON", func() { AppendMsgpackFromJSON(buf, p.Data, nil) })
	attachments := [][]byte{{1}, {2}}
	bp := mustParse(t, string(binaryEvent))
	none("AppendMsgpackFromJSON with attachments", func() { AppendMsgpackFromJSON(buf, bp.Data, attachments) })

	msgpack := packed(t, `["e",{"a":[1,-2,1.5,null,true,"text"],"n":{"_placeholder":true,"num":0}},"\n\ud800"]`, []byte{1, 2, 3})
	atts := make([][]byte, 0, 4)
	none("AppendJSONFromMsgpack", func() {
		if _, _, _, err := AppendJSONFromMsgpack(buf, msgpack, atts); err != nil {
			t.Fatal(err)
		}
	})
	none("SkipMsgpack", func() { SkipMsgpack(msgpack) })

	b := Broadcast{UID: "aBcDeF", Namespace: "/chat", Data: packed(t, string(p.Data)), Rooms: []string{"room:general", "42"}, Except: []string{"x"}, Entry: "1-0", Seq: 5}
	payload := AppendBroadcast(nil, &b)
	var reused Broadcast
	none("ParseBroadcast", func() {
		if err := ParseBroadcast(payload, &reused); err != nil {
			t.Fatal(err)
		}
	})
	none("AppendBroadcast", func() { AppendBroadcast(buf, &b) })
	none("AppendClientEvent", func() { AppendClientEvent(buf, "/chat", 1, true, reused.Data, nil) })
	var c Channels
	channel := c.Room("/chat", "room:general")
	none("RoomOf", func() { c.RoomOf("/chat", channel) })
}

func BenchmarkParse(b *testing.B) {
	event := []byte(chatEvent)
	b.SetBytes(int64(len(event)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(event); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSplitArray(b *testing.B) {
	data := mustParse(b, chatEvent).Data
	into := make([][]byte, 0, 8)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		into, _ = SplitArray(data, into[:0])
	}
}

func BenchmarkMsgpackFromJSON(b *testing.B) {
	data := mustParse(b, chatEvent).Data
	buf := make([]byte, 0, 256)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendMsgpackFromJSON(buf, data, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJSONFromMsgpack(b *testing.B) {
	msgpack := packed(b, string(mustParse(b, chatEvent).Data))
	buf := make([]byte, 0, 256)
	b.SetBytes(int64(len(msgpack)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := AppendJSONFromMsgpack(buf, msgpack, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseBroadcast(b *testing.B) {
	message := Broadcast{UID: "aBcDeF", Namespace: "/", Data: packed(b, string(mustParse(b, chatEvent).Data)), Rooms: []string{"room:general"}, Entry: "1700000000000-0", Seq: 5}
	payload := AppendBroadcast(nil, &message)
	var reused Broadcast
	b.ReportAllocs()
	for b.Loop() {
		if err := ParseBroadcast(payload, &reused); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendBroadcast(b *testing.B) {
	message := Broadcast{UID: "aBcDeF", Namespace: "/", Data: packed(b, string(mustParse(b, chatEvent).Data)), Rooms: []string{"room:general"}, Seq: 5, Journal: true}
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		AppendBroadcast(buf, &message)
	}
}

// BenchmarkAppendClientEvent is the one encoding for all receivers: MessagePack to the text of their packet.
func BenchmarkAppendClientEvent(b *testing.B) {
	data := packed(b, string(mustParse(b, chatEvent).Data))
	buf := make([]byte, 0, 512)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := AppendClientEvent(buf, "/", 0, false, data, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEntryOf is all that is read of a message for a room without members.
func BenchmarkEntryOf(b *testing.B) {
	payload := AppendBroadcast(nil, &Broadcast{
		UID: "aBcDeF", Namespace: "/", Data: packed(b, string(mustParse(b, chatEvent).Data)), Rooms: []string{"room:general"}, Seq: 5, Journal: true,
	})
	b.ReportAllocs()
	for b.Loop() {
		EntryOf(payload)
	}
}

func BenchmarkEventName(b *testing.B) {
	first := []byte(`"message"`)
	b.ReportAllocs()
	for b.Loop() {
		EventName(first)
	}
}

func BenchmarkAppendPacket(b *testing.B) {
	p := mustParse(b, chatEvent)
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		AppendPacket(buf, &p)
	}
}
