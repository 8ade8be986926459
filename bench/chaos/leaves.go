package chaos

import (
	"fmt"
	"slices"
)

// Pair is a user in a room with a device on the node that is killed.
type Pair struct {
	Room      int
	User      string
	Elsewhere bool // another device of the user, on another node, is in the room
	Late      bool // the user was not back in time; nothing is expected
}

// Seen is what one observer counted.
type Seen struct {
	Room  int
	Name  string
	Lefts map[string]int // nil if it was away in between
}

// Leaves is how the updates that observers got compare with the ones due. The unit is a pair at an
// observer of its room.
type Leaves struct {
	Pairs     int      `json:"pairs"`
	Observers int      `json:"observers"`
	Broken    int      `json:"observers_interrupted"` // not judged
	Late      int      `json:"late"`                  // pairs not judged: the user came back late
	Expected  int      `json:"expected"`              // leaves due
	Once      int      `json:"seen_once"`
	More      int      `json:"seen_more_often"`
	Missed    int      `json:"missed"`
	Silent    int      `json:"silent"`   // no leave due
	Uncalled  int      `json:"uncalled"` // of these, seen to leave
	Examples  []string `json:"examples,omitempty"`
}

// Right reports whether every leave that was due was seen once, and no other.
func (l *Leaves) Right() bool { return l.More == 0 && l.Missed == 0 && l.Uncalled == 0 }

// Complete reports whether nothing that was due is still missed.
func (l *Leaves) Complete() bool { return l.Missed == 0 }

// JudgeLeaves compares what observers saw with the pairs. due says whether users without another
// device in the room must be seen to leave; otherwise nobody may.
func JudgeLeaves(pairs []Pair, seen []Seen, due bool, rooms []string) Leaves {
	l := Leaves{Pairs: len(pairs)}
	for _, p := range pairs {
		if p.Late {
			l.Late++
		}
	}
	byRoom := make([][]Pair, len(rooms))
	for _, p := range pairs {
		byRoom[p.Room] = append(byRoom[p.Room], p)
	}
	for _, s := range seen {
		if s.Lefts == nil {
			l.Broken++
			continue
		}
		l.Observers++
		for _, p := range byRoom[s.Room] {
			if !p.Late {
				l.judge(s, p, due && !p.Elsewhere, rooms[s.Room])
			}
		}
	}
	return l
}

func (l *Leaves) judge(s Seen, p Pair, due bool, room string) {
	n := s.Lefts[p.User]
	wrong := ""
	switch {
	case !due:
		l.Silent++
		if n > 0 {
			l.Uncalled++
			wrong = fmt.Sprintf("saw %s leave, who did not", p.User)
		}
	case n == 1:
		l.Once++
	case n > 1:
		l.More++
		wrong = fmt.Sprintf("saw %s leave %d times", p.User, n)
	default:
		l.Missed++
		wrong = fmt.Sprintf("did not see %s leave", p.User)
	}
	if due {
		l.Expected++
	}
	if wrong != "" && len(l.Examples) < maxExamples {
		l.Examples = append(l.Examples, fmt.Sprintf("%s in %s %s", s.Name, room, wrong))
	}
}

// Lists is how the observers' own lists compare with the keys.
type Lists struct {
	Observers int      `json:"observers"`
	Wrong     int      `json:"wrong"`
	Examples  []string `json:"examples,omitempty"`
}

// compare adds one observer.
func (l *Lists) compare(name, room string, list []string, ok bool, key []string) {
	l.Observers++
	want := slices.Sorted(slices.Values(key))
	if ok && slices.Equal(list, want) {
		return
	}
	l.Wrong++
	if len(l.Examples) >= maxExamples {
		return
	}
	if !ok {
		l.Examples = append(l.Examples, fmt.Sprintf("%s is not in %s", name, room))
		return
	}
	var extra, lacks []string
	for _, u := range list {
		if _, found := slices.BinarySearch(want, u); !found {
			extra = append(extra, u)
		}
	}
	for _, u := range want {
		if _, found := slices.BinarySearch(list, u); !found {
			lacks = append(lacks, u)
		}
	}
	l.Examples = append(l.Examples, fmt.Sprintf("%s in %s has %d too many %v, lacks %d %v",
		name, room, len(extra), extra[:min(len(extra), 3)], len(lacks), lacks[:min(len(lacks), 3)]))
}
