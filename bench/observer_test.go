//go:build linux

package main

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// observed runs the observer on a Redis that holds what is true about five users in two rooms, with a
// limit of 50 ms, and returns its result after it made some hundred looks.
func observed(t *testing.T, act func(db *miniredis.Miniredis, o *observer)) *report.Observer {
	t.Helper()
	argv, err := observerCommand(context.Background())
	if errors.Is(err, errNoObserver) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	db, _, tr := presenceOf(t, "")
	clock, err := load.NewClock()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // the child dies with its parent's thread
	defer runtime.UnlockOSThread()
	o, err := startObserver(argv, t.TempDir(), "redis://"+db.Addr(), "", 50*time.Millisecond, clock)
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	o.tell(truthLines(tr, float64(clock.Now())/1e6)...)
	act(db, o)
	// Enough looks for every set to be read as a whole, and for what is wrong to be looked at again.
	for enough := db.CommandCount() + 1500; db.CommandCount() < enough; time.Sleep(10 * time.Millisecond) {
		select {
		case <-o.process.done:
			t.Fatal(o.process.failure("has ended"))
		default:
		}
	}
	r := o.end()
	if r.Missing != "" || r.Errors != 0 || r.Looks == 0 || r.Sets == 0 {
		t.Errorf("%+v", r)
	}
	return r
}

func TestObserverAgreesWithWhatIsRight(t *testing.T) {
	t.Parallel()
	r := observed(t, func(db *miniredis.Miniredis, o *observer) {
		// A change that the keys follow, and one that is under way.
		o.flux("u0")
		db.Del("user:u0:socket")
		_, errA := db.SRem("presence:online", "u0")
		_, errB := db.SRem("room:r0:users", "u0")
		o.truth("u0", "")
		o.flux("u1")
		_, errC := db.SRem("presence:online", "u1")
		if err := errors.Join(errA, errB, errC); err != nil {
			t.Fatal(err)
		}
	})
	if r.Disagreements != 0 || r.Changes != 1 || r.Users != 6 {
		t.Errorf("%+v", r)
	}
}

func TestObserverSeesWhatIsWrong(t *testing.T) {
	t.Parallel()
	r := observed(t, func(db *miniredis.Miniredis, o *observer) {
		_, errA := db.SRem("presence:online", "u3")
		_, errB := db.SAdd("room:r1:users", "u2")
		_, errC := db.SAdd("room:r0:users", "stranger")
		if err := errors.Join(errA, errB, errC, db.Set("user:u4:socket", "other")); err != nil {
			t.Fatal(err)
		}
		o.truth("u0", "s0-new", "r0") // which the key does not follow
		o.forget("u1")                // first: what is wrong for longer than the observer waits would count
		_, err := db.SRem("presence:online", "u1")
		if err != nil {
			t.Fatal(err)
		}
	})
	var got []string
	for _, d := range r.Examples {
		got = append(got, strings.Split(d.String(), ", for")[0])
	}
	slices.Sort(got)
	want := []string{
		"presence:online of u3 is false, not true",
		"room:r0:users of stranger is true, not false",
		"room:r1:users of u2 is true, not false",
		"user:u0:socket of u0 is s0, not s0-new",
		"user:u4:socket of u4 is other, not s4",
	}
	if r.Disagreements != len(want) || !slices.Equal(got, want) {
		t.Errorf("%d disagreements:\n%s\nwant\n%s", r.Disagreements, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r.LongestMS <= 50 || r.StillWrong != len(want)+1 && r.StillWrong != len(want) {
		t.Errorf("wrong for %v ms at most, %d still wrong", r.LongestMS, r.StillWrong)
	}
}

func TestObserverThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	clock, err := load.NewClock()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	o, err := startObserver([]string{"sh", "-c", "echo no module >&2; exit 3"}, t.TempDir(), "redis://x", "", time.Second, clock)
	if err != nil {
		t.Fatal(err)
	}
	<-o.process.done
	o.truth("u", "s")
	if r := o.end(); !strings.Contains(r.Missing, "no module") {
		t.Errorf("%+v does not say why there is no result", r)
	}
}

func TestNoObserverIsTold(t *testing.T) {
	var o *observer
	o.truth("u", "s", "r")
	o.flux("u")
	o.forget("u")
	o.close()
}
