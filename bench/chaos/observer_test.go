package chaos

import (
	"maps"
	"strings"
	"testing"
)

func at(epoch string, seq uint64, users ...string) told {
	return told{Users: users, Epoch: epoch, Seq: seq}
}

// TestObserver plays events and answers to an observer that has the list of change 5 in epoch A.
func TestObserver(t *testing.T) {
	refused := told{}
	answer := func(t told) *told { return &t }
	type step struct {
		event string // payload of an event, or
		reply *told  // an answer to presence
		ask   bool   // it wants to ask
	}
	tests := []struct {
		name  string
		steps []step
		list  string
		lefts map[string]int
	}{
		{"follows", []step{{event: `{"room":"r","joined":["eve"],"left":["bob"],"count":2,"prev":5,"seq":7,"epoch":"A","more":{}}`}},
			"ada eve", map[string]int{"bob": 1}},
		{"overlaps", []step{{event: `{"joined":["eve"],"left":[],"prev":3,"seq":7,"epoch":"A"}`}}, "ada bob eve", nil},
		{"names known", []step{{event: `{"joined":["ada"],"left":["zoe"],"prev":5,"seq":6,"epoch":"A"}`}}, "ada bob", map[string]int{"zoe": 1}},
		{"known already", []step{{event: `{"joined":[],"left":["bob"],"prev":3,"seq":5,"epoch":"A"}`}}, "ada bob", nil},
		{"left twice", []step{{event: `{"joined":[],"left":["bob"],"prev":5,"seq":6,"epoch":"A"}`},
			{event: `{"joined":["bob"],"left":[],"prev":6,"seq":7,"epoch":"A"}`}, {event: `{"joined":[],"left":["bob"],"prev":7,"seq":8,"epoch":"A"}`}},
			"ada", map[string]int{"bob": 2}},
		{"gap", []step{{event: `{"joined":["eve"],"left":[],"prev":6,"seq":7,"epoch":"A"}`, ask: true}, {reply: answer(at("A", 7, "ada", "eve"))}},
			"ada eve", map[string]int{"bob": 1}},
		{"one question at a time", []step{{event: `{"joined":["eve"],"prev":6,"seq":7,"epoch":"A"}`, ask: true},
			{event: `{"joined":["max"],"prev":8,"seq":9,"epoch":"A"}`}, {reply: answer(at("A", 9, "ada", "eve", "max"))}},
			"ada eve max", map[string]int{"bob": 1}},
		{"another epoch", []step{{event: `{"joined":["eve"],"prev":0,"seq":1,"epoch":"B"}`, ask: true}, {reply: answer(at("B", 1, "ada", "eve"))},
			{event: `{"joined":["max"],"left":["ada"],"prev":1,"seq":3,"epoch":"B"}`}}, "eve max", map[string]int{"ada": 1, "bob": 1}},
		{"a list replaces", []step{{event: `{"users":["bob","eve"],"count":2,"seq":9,"epoch":"A"}`},
			{event: `{"joined":[],"left":["ada"],"prev":7,"seq":8,"epoch":"A"}`}}, "bob eve", map[string]int{"ada": 1}},
		{"an empty list replaces", []step{{event: `{"users":[],"count":0,"seq":9,"epoch":"A"}`}}, "", map[string]int{"ada": 1, "bob": 1}},
		{"an older list does not", []step{{event: `{"users":["zoe"],"count":1,"seq":4,"epoch":"A"}`}}, "ada bob", nil},
		{"refused", []step{{event: `{"joined":["eve"],"prev":6,"seq":7,"epoch":"A"}`, ask: true}, {reply: &refused},
			{event: `{"joined":["eve"],"prev":7,"seq":8,"epoch":"A"}`, ask: true}}, "ada bob", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := &observer{}
			if o.joined(at("A", 5, "ada", "bob")) {
				t.Error("it asks after the join")
			}
			o.begin()
			for i, s := range tt.steps {
				var ask bool
				if s.reply != nil {
					ask = o.answered(*s.reply, s.reply.Epoch != "")
				} else {
					var err error
					if ask, err = o.event([]byte(s.event)); err != nil {
						t.Fatal(err)
					}
				}
				if ask != s.ask {
					t.Errorf("step %d: asks %v", i, ask)
				}
			}
			if list, ok := o.users(); !ok || strings.Join(list, " ") != tt.list {
				t.Errorf("list %v, want %v", list, tt.list)
			}
			if seen := o.seen(); !maps.Equal(seen, tt.lefts) {
				t.Errorf("saw %v leave, want %v", seen, tt.lefts)
			}
		})
	}
}

func TestObserverWhoseFirstListWasOvertaken(t *testing.T) {
	o := &observer{}
	if ask, err := o.event([]byte(`{"joined":["eve"],"left":[],"prev":5,"seq":6,"epoch":"A"}`)); ask || err != nil {
		t.Errorf("before its join it asks %v, %v", ask, err)
	}
	if !o.joined(at("A", 5, "ada", "bob")) {
		t.Error("it takes a list from before an update it had")
	}
	if o.answered(at("A", 6, "ada", "bob", "eve"), true) {
		t.Error("it asks again")
	}
	if list, _ := o.users(); len(list) != 3 {
		t.Errorf("list %v", list)
	}
}

func TestObserverWithoutAListAsks(t *testing.T) {
	o := &observer{}
	if !o.joined(told{}) {
		t.Error("it does not ask after a join without a list")
	}
	if o.answered(at("A", 1, "ada"), true) {
		t.Error("it asks although it has a list")
	}
}

func TestObserverThatWasAwayCountsNothing(t *testing.T) {
	o := &observer{}
	o.joined(at("A", 5, "ada"))
	o.begin()
	o.away()
	if _, err := o.event([]byte(`{"joined":["eve"],"left":["ada"],"prev":5,"seq":6,"epoch":"A"}`)); err != nil {
		t.Fatal(err)
	}
	if _, ok := o.users(); ok {
		t.Error("it has a list without having joined")
	}
	o.joined(at("A", 6, "eve"))
	if o.seen() != nil {
		t.Error("it claims to have seen everything")
	}
}

func TestUpdatesWithoutAnEpochAreUnreadable(t *testing.T) {
	o := &observer{}
	if _, err := o.event([]byte(`{"joined":["eve"],"left":[],"count":1}`)); err == nil {
		t.Error("it was taken")
	}
}

func TestJudgeLeaves(t *testing.T) {
	pairs := []Pair{
		{Room: 0, User: "ada"}, {Room: 0, User: "bob", Elsewhere: true}, {Room: 1, User: "ada"}, {Room: 0, User: "eve", Late: true},
	}
	rooms := []string{"kitchen", "attic"}
	judge := func(due bool, kitchen, attic map[string]int) Leaves {
		return JudgeLeaves(pairs, []Seen{{0, "one", kitchen}, {1, "two", attic}}, due, rooms)
	}
	tests := []struct {
		name           string
		due            bool
		kitchen, attic map[string]int
		want           Leaves
		right          bool
	}{
		{"each once", true, map[string]int{"ada": 1, "max": 1}, map[string]int{"ada": 1}, Leaves{Observers: 2, Expected: 2, Once: 2, Silent: 1}, true},
		{"missed", true, map[string]int{}, map[string]int{"ada": 1}, Leaves{Observers: 2, Expected: 2, Once: 1, Missed: 1, Silent: 1}, false},
		{"twice", true, map[string]int{"ada": 2}, map[string]int{"ada": 1}, Leaves{Observers: 2, Expected: 2, Once: 1, More: 1, Silent: 1}, false},
		{"has another device", true, map[string]int{"ada": 1, "bob": 1}, map[string]int{"ada": 1},
			Leaves{Observers: 2, Expected: 2, Once: 2, Silent: 1, Uncalled: 1}, false},
		{"all returned", false, map[string]int{"eve": 1}, map[string]int{}, Leaves{Observers: 2, Silent: 3}, true},
		{"seen although returned", false, map[string]int{"ada": 1}, map[string]int{}, Leaves{Observers: 2, Silent: 3, Uncalled: 1}, false},
		{"interrupted", true, nil, map[string]int{"ada": 1}, Leaves{Observers: 1, Broken: 1, Expected: 1, Once: 1}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := judge(tt.due, tt.kitchen, tt.attic)
			if got.Right() != tt.right || (len(got.Examples) == 0) != tt.right {
				t.Errorf("right is %v, examples %v", got.Right(), got.Examples)
			}
			tt.want.Pairs, tt.want.Late, got.Examples = 4, 1, nil
			if got.Pairs != tt.want.Pairs || got.Late != tt.want.Late || got.Observers != tt.want.Observers || got.Broken != tt.want.Broken ||
				got.Expected != tt.want.Expected || got.Once != tt.want.Once || got.More != tt.want.More ||
				got.Missed != tt.want.Missed || got.Silent != tt.want.Silent || got.Uncalled != tt.want.Uncalled {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestListsNameWhatDiffers(t *testing.T) {
	var l Lists
	l.compare("one", "kitchen", []string{"ada", "bob"}, true, []string{"bob", "ada"})
	l.compare("two", "kitchen", []string{"ada", "max"}, true, []string{"bob", "ada"})
	l.compare("three", "kitchen", nil, false, nil)
	if l.Observers != 3 || l.Wrong != 2 || len(l.Examples) != 2 || !strings.Contains(l.Examples[0], "[max]") || !strings.Contains(l.Examples[0], "[bob]") {
		t.Errorf("%+v", l)
	}
}

func TestPresencePayloadIsFoundBesideAnOffset(t *testing.T) {
	for event, want := range map[string]string{
		`["presence",{"room":"r","users":["a"]}]`:         `{"room":"r","users":["a"]}`,
		`["presence",{"room":"r"},"k3Jx_9aQ.1700000-0"]`:  `{"room":"r"}`,
		`["message","r",{"from":"a"},"presence","e.1-0"]`: "",
		`["presence",broken]`:                             `["presence",broken]`, // which its reader refuses
	} {
		payload, ok := presencePayload([]byte(event))
		if string(payload) != want || ok != (want != "") {
			t.Errorf("%s: %s, %v", event, payload, ok)
		}
	}
}
