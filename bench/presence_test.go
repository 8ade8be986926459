//go:build linux

package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/stellara/edge/bench/load"
)

// presenceOf fills a Redis with what the servers would have written for a plan of six connections.
func presenceOf(t *testing.T, prefix string) (*miniredis.Miniredis, *presenceReader, *truth) {
	t.Helper()
	db := miniredis.RunT(t)
	p, err := newPresenceReader("redis://"+db.Addr(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	plan := load.Plan{Conns: 6, Rooms: 2, Prefix: prefix}
	sids := []string{"s0", "s1", "s2", "s3", "s4", "s5"}
	tr := newTruth(&plan, sids, []int{5})
	for i := range 5 {
		user := plan.User(i)
		for _, key := range []string{"presence:online", "room:" + plan.RoomName(plan.Room(i)) + ":users"} {
			if _, err := db.SAdd(key, user); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Set("user:"+user+":socket", sids[i]); err != nil {
			t.Fatal(err)
		}
	}
	return db, p, tr
}

func TestPresenceThatIsRight(t *testing.T) {
	_, p, tr := presenceOf(t, "")
	got, err := p.check(context.Background(), "loaded", tr, time.Now())
	if err != nil || got.Wrong != 0 || got.Keys != 1+2+6 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPresenceThatIsWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(db *miniredis.Miniredis) error
		want  string
	}{
		"not online": {func(db *miniredis.Miniredis) error { _, err := db.SRem("presence:online", "u3"); return err }, "presence:online lacks 1 (u3)"},
		"ghost":      {func(db *miniredis.Miniredis) error { _, err := db.SAdd("presence:online", "u5"); return err }, "presence:online has 1 too many (u5)"},
		"room":       {func(db *miniredis.Miniredis) error { _, err := db.SRem("room:r1:users", "u1"); return err }, "room:r1:users lacks 1 (u1)"},
		"wrong room": {func(db *miniredis.Miniredis) error { _, err := db.SAdd("room:r0:users", "u1"); return err }, "room:r0:users has 1 too many (u1)"},
		"socket":     {func(db *miniredis.Miniredis) error { return db.Set("user:u2:socket", "old") }, `user:u2:socket is "old", not "s2"`},
		"no socket":  {func(db *miniredis.Miniredis) error { db.Del("user:u2:socket"); return nil }, `user:u2:socket is "", not "s2"`},
		"old socket": {func(db *miniredis.Miniredis) error { return db.Set("user:u5:socket", "s5") }, `user:u5:socket is "s5", not ""`},
	} {
		db, p, tr := presenceOf(t, "")
		if err := tc.spoil(db); err != nil {
			t.Fatal(err)
		}
		// Wrong for longer than the limit already, so that one look decides.
		got, err := p.check(context.Background(), "loaded", tr, time.Now().Add(-2*presenceLimit))
		if err != nil || got.Wrong != 1 || len(got.Examples) != 1 || got.Examples[0] != tc.want {
			t.Errorf("%s: %+v, %v; want %s", name, got, err, tc.want)
		}
	}
}

func TestPresenceOfStrangersIsNotOurs(t *testing.T) {
	db, p, tr := presenceOf(t, "bench01-")
	if _, err := db.SAdd("presence:online", "alice"); err != nil {
		t.Fatal(err)
	}
	got, err := p.check(context.Background(), "loaded", tr, time.Now().Add(-2*presenceLimit))
	if err != nil || got.Wrong != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPresenceHasTimeToBecomeRight(t *testing.T) {
	db, p, tr := presenceOf(t, "")
	db.Del("user:u2:socket")
	before := db.CommandCount()
	go func() {
		// Three sets and one MGET are the first look, which finds the key wrong.
		for db.CommandCount() < before+4 {
			time.Sleep(time.Millisecond)
		}
		_ = db.Set("user:u2:socket", "s2")
	}()
	// A limit that does not come: the check must end because the key is right.
	got, err := p.check(context.Background(), "loaded", tr, time.Now().Add(time.Hour))
	if err != nil || got.Wrong != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPresenceNeedsRedis(t *testing.T) {
	if _, err := newPresenceReader("http://x", ""); err == nil || !strings.Contains(err.Error(), "presence") {
		t.Errorf("error %v", err)
	}
}
