package state

import (
	"testing"
	"time"
)

func TestSeldom(t *testing.T) {
	var s seldom
	start := time.Now()
	for _, step := range []struct {
		after time.Duration
		n     int
		total int // 0: no line
	}{
		{0, 0, 0},
		{0, 3, 3},
		{time.Second, 1, 0},
		{seldomInterval - 1, 2, 0},
		{seldomInterval, 0, 0}, // nothing to say
		{seldomInterval, 1, 4},
		{seldomInterval + 1, 1, 0},
	} {
		if total, write := s.pass(step.n, start.Add(step.after)); total != step.total || write != (step.total > 0) {
			t.Errorf("after %v %d more: %d, %v; want %d", step.after, step.n, total, write, step.total)
		}
	}
}
