package delivery

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// moment is when everything arrives.
var moment = time.Unix(1, 0)

// session makes one of stream 1 out of the numbers in their order of arrival; 0 is none of them.
func session(floor, due uint64, numbers ...uint64) Session {
	s := Session{Members: []Membership{{Stream: 1, Floor: floor, Due: due, Acked: true}}, Conns: 1, End: moment.Add(time.Hour)}
	for _, n := range numbers {
		if n > 0 {
			s.add(1, n, 0, moment)
		}
	}
	return s
}

func TestCheck(t *testing.T) {
	const open = 0 // no last message is known
	tests := []struct {
		name     string
		last     uint64
		sessions []Session
		want     Counts
		example  string
	}{
		{"right", 4, []Session{session(0, 2, 2, 3, 4)}, Counts{Received: 3}, ""},
		{"joined while a message was on its way", 4, []Session{session(0, 3, 2, 3, 4)}, Counts{Received: 3}, ""},
		{"nothing yet", 4, []Session{session(0, 5)}, Counts{}, ""},
		{"nothing due", 4, []Session{session(0, 0)}, Counts{}, ""},
		{"flows on", open, []Session{session(0, 2, 2, 3)}, Counts{Received: 2}, ""},
		{"lost in the middle", 5, []Session{session(0, 2, 2, 5)}, Counts{Received: 2, Lost: 2}, "lost 2 of stream 1, from 3 to 4"},
		{"lost at the end", 5, []Session{session(0, 2, 2, 3)}, Counts{Received: 2, Lost: 2}, "from 4 to 5"},
		{"lost at the beginning", 4, []Session{session(0, 2, 4)}, Counts{Received: 1, Lost: 2}, "from 2 to 3"},
		{"lost all", 4, []Session{session(0, 2)}, Counts{Lost: 3}, "from 2 to 4"},
		{"twice", 4, []Session{session(0, 2, 2, 3, 3, 4)}, Counts{Received: 4, Duplicated: 1}, "got 3 of stream 1 twice"},
		{"replayed from too early", 4, []Session{session(0, 2, 2, 3, 2, 3, 4)}, Counts{Received: 5, Duplicated: 2}, "got 2 of stream 1 twice"},
		{"two changed places", 4, []Session{session(0, 2, 2, 4, 3)}, Counts{Received: 3, OutOfOrder: 1}, "got 3 of stream 1 after 4"},
		{"filled and then twice", 4, []Session{session(0, 2, 2, 4, 3, 3)}, Counts{Received: 4, OutOfOrder: 1, Duplicated: 1}, ""},
		{"older than the first", 4, []Session{session(0, 3, 3, 2, 2, 4)}, Counts{Received: 4, OutOfOrder: 1, Duplicated: 1}, ""},
		{"from before the join", 4, []Session{session(2, 3, 2, 3, 4)}, Counts{Received: 3, Stale: 1}, "published before it joined"},
		{"told, rejoined", 9, []Session{session(0, 2, 2, 3), session(0, 7, 7, 8, 9)}, Counts{Received: 5, Missed: 3}, ""},
		{"told, and lost behind the join", 9, []Session{session(0, 2, 2, 3), session(0, 7, 8, 9)}, Counts{Received: 4, Missed: 3, Lost: 1}, "session 2: lost 1"},
		{"told of a hole is not lost", 9, []Session{session(0, 2, 2, 5), session(0, 9, 9)}, Counts{Received: 3, Missed: 3, Lost: 2}, "from 3 to 4"},
		{"again in the next session", 5, []Session{session(0, 2, 2, 3), session(0, 4, 3, 4, 5)}, Counts{Received: 5, Again: 1}, ""},
		{"replayed into the next session", 5, []Session{session(0, 2, 2, 3, 4), session(4, 5, 3, 4, 5)}, Counts{Received: 6, Again: 2, Stale: 2}, ""},
		{"a session of which nothing came", 9, []Session{session(0, 2, 2, 3), session(0, 5), session(0, 8, 8, 9)}, Counts{Received: 4, Missed: 4}, ""},
		{"nothing since it was told", 9, []Session{session(0, 2, 2, 3), session(0, 8)}, Counts{Received: 2, Missed: 4, Lost: 2}, "from 8 to 9"},
		{"a room it is not in", 9, []Session{{Got: []Stretch{{Stream: 1, First: 4, Last: 5}}}}, Counts{Received: 2, Strange: 2}, "did not join"},
		{"a room it has asked for", 9, []Session{{Members: []Membership{{Stream: 1}}, Got: []Stretch{{Stream: 1, First: 4, Last: 5}}}}, Counts{Received: 2}, ""},
		{"unreadable", open, []Session{{Strange: 3}}, Counts{Strange: 3}, "3 messages"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var last map[int]uint64
			if tt.last > 0 {
				last = map[int]uint64{1: tt.last}
			}
			f := Check([]History{{Client: "ada", Sessions: tt.sessions}}, last, make([]bool, 1))
			if f.Total != tt.want {
				t.Errorf("got %+v, want %+v", f.Total, tt.want)
			}
			if text := strings.Join(f.Examples, "\n"); !strings.Contains(text, tt.example) {
				t.Errorf("%q is not in %q", tt.example, text)
			}
		})
	}
}

func TestCheckNamesThePhase(t *testing.T) {
	s := session(0, 1, 1, 2)
	s.add(1, 4, 2, moment)
	s.add(1, 4, 3, moment)
	f := Check([]History{{Client: "ada", Sessions: []Session{s}}}, map[int]uint64{1: 5}, make([]bool, 5))
	if f.Phases[2].Lost != 1 || f.Phases[3].Duplicated != 1 || f.Phases[4].Lost != 1 || f.Total.Wrong() != 3 {
		t.Errorf("%+v", f.Phases)
	}
}

func TestStreamsAreFollowedApart(t *testing.T) {
	s := Session{Members: []Membership{{Stream: 1, Due: 1, Acked: true}, {Stream: 2, Due: 5, Acked: true}}}
	for n := range uint64(4) {
		s.add(1, n+1, 0, moment)
		s.add(2, n+5, 0, moment)
	}
	if f := Check([]History{{Sessions: []Session{s}}}, map[int]uint64{1: 4, 2: 8}, make([]bool, 1)); f.Total.Wrong() != 0 || f.Total.Received != 8 {
		t.Errorf("%+v %v", f.Total, f.Examples)
	}
}

// TestMutationsAreFound takes right histories and does one wrong thing to each.
func TestMutationsAreFound(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for range 2000 {
		due := 1 + rng.Uint64N(50)
		var numbers []uint64
		for n := due; n < due+5+rng.Uint64N(40); n++ {
			numbers = append(numbers, n)
		}
		last := numbers[len(numbers)-1]
		check := func(numbers []uint64) Counts {
			return Check([]History{{Sessions: []Session{session(0, due, numbers...)}}}, map[int]uint64{1: last}, make([]bool, 1)).Total
		}
		if c := check(numbers); c.Wrong() != 0 {
			t.Fatalf("a right history of %v is wrong: %+v", numbers, c)
		}
		at := rng.IntN(len(numbers))
		var got, want Counts
		want.Received = uint64(len(numbers))
		mutant := append([]uint64(nil), numbers...)
		switch rng.IntN(3) {
		case 0:
			got = check(append(mutant[:at], mutant[at+1:]...))
			want.Received--
			want.Lost = 1
		case 1:
			got = check(append(mutant[:at+1], numbers[at:]...)) // the one at at comes twice in a row
			want.Received++
			want.Duplicated = 1
		default:
			to := (at + 1) % len(numbers)
			if to == 0 {
				continue
			}
			mutant[at], mutant[to] = mutant[to], mutant[at]
			got = check(mutant)
			want.OutOfOrder = 1
		}
		if got != want {
			t.Fatalf("of %v mutated at %d: got %+v, want %+v", numbers, at, got, want)
		}
	}
}

// TestHolesThatWereTold has a session with a hole and one after it.
func TestHolesThatWereTold(t *testing.T) {
	tests := []struct {
		name string
		harm func(s *Session)
		told bool // the phase ends all sessions
		torn bool
	}{
		{"closed for it", func(*Session) {}, false, true},
		{"closed much later", func(s *Session) { s.End = moment.Add(time.Minute) }, false, false},
		{"recovered in between", func(s *Session) { s.Conns = 2 }, false, false},
		{"dropped by the client", func(s *Session) { s.Dropped = true }, false, false},
		{"dropped by the client when all were told", func(s *Session) { s.Dropped = true }, true, true},
	}
	for _, tt := range tests {
		s := session(0, 2, 2, 5)
		s.End = moment.Add(time.Second)
		tt.harm(&s)
		f := Check([]History{{Sessions: []Session{s, session(0, 9, 9)}}}, map[int]uint64{1: 9}, []bool{tt.told})
		want := Counts{Received: 3, Missed: 3, Lost: 2}
		if tt.torn {
			want.Lost, want.Torn = 0, 2
		}
		if f.Total != want {
			t.Errorf("%s: got %+v, want %+v", tt.name, f.Total, want)
		}
	}
	if f := Check([]History{{Sessions: []Session{session(0, 2, 2, 5)}}}, nil, []bool{true}); f.Total.Lost != 2 {
		t.Errorf("a hole in a session that goes on: %+v", f.Total)
	}
}
