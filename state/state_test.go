package state

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

func TestOpenChecksItsConfig(t *testing.T) {
	good := Config{Node: "nodeAAAA", UID: "uidABC", Log: slog.New(slog.DiscardHandler)}
	tests := []struct {
		change  func(c *Config)
		problem string
	}{
		{func(c *Config) {}, ""},
		{func(c *Config) { c.URL = "redis://user:secret@127.0.0.1:1/2" }, ""},
		{func(c *Config) { c.URL = "rediss://127.0.0.1" }, ""},
		{func(c *Config) { c.Node = "short" }, `node "short"`},
		{func(c *Config) { c.Node = "node*AAA" }, `node "node*AAA"`},
		{func(c *Config) { c.UID = "" }, `uid ""`},
		{func(c *Config) { c.PublishQueue = -1 }, "publish queue bound -1"},
		{func(c *Config) { c.PresenceWindow = -time.Second }, "presence window -1s"},
		{func(c *Config) { c.ProofLag = -time.Second }, "proof lag -1s"},
		{func(c *Config) { c.Recovery, c.Retention = true, time.Minute }, "retention 1m0s is less than 4m13s"},
		{func(c *Config) { c.Recovery, c.SessionWindow = true, time.Hour }, ""},
		{func(c *Config) { c.PresenceGrace = -time.Second }, "presence grace -1s"},
		{func(c *Config) { c.URL = "http://x" }, "must begin with"},
		{func(c *Config) { c.URL = "redis://:secret@x:y:z" }, "redis URL"},
		{func(c *Config) { c.URL = "redis-sentinel://x" }, "must name the master"},
		{func(c *Config) { c.URL = "redis://x,y:1" }, "several servers"},
	}
	for _, test := range tests {
		cfg := good
		test.change(&cfg)
		s, err := Open(cfg, metrics.New(prometheus.NewRegistry(), "test"))
		switch {
		case test.problem == "" && err != nil:
			t.Errorf("%+v: %v", cfg, err)
		case test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)):
			t.Errorf("%+v: %v, want %q", cfg, err, test.problem)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows the password: %v", err)
		}
		if s == nil {
			continue
		}
		if s.Ready() == nil {
			t.Error("ready before Run")
		}
		for range 2 {
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := s.Bus().Publish(socketio.Publication{Namespace: "/"}); !errors.Is(err, ErrClosed) {
			t.Errorf("publish after Close: %v", err)
		}
		if err := s.Run(t.Context(), nil, nil, nil); err == nil || errors.Is(err, t.Context().Err()) {
			t.Errorf("Run after Close: %v", err)
		}
	}
}

// Without a URL everything runs inside the process.
func TestOpenWithoutURL(t *testing.T) {
	m := metrics.New(prometheus.NewRegistry(), "test")
	s, err := Open(Config{Node: "nodeAAAA", UID: "uidABC", Cache: true, Log: slog.New(slog.DiscardHandler)}, m)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{
		State: s, id: "nodeAAAA", metrics: m, recorder: &recorder{subscribed: make(map[announcement]int)},
		updates: make(chan PresenceUpdate, 10), done: make(chan struct{}),
	}
	s.Bus().Open("/")
	n.run(t)
	eventually(t, "ready", s.Ready)
	subscribe(t, n, "/", "r", 1)
	publish(t, n, "/", "r", "hello")
	expect(t, n, delivery{"/", "r", "hello"})
	n.connect(t, "u", "s")
	n.join(t, "u", "s", "r")
	if got := nextUpdate(t, n); got.Count != 1 {
		t.Errorf("got %+v", got)
	}
	if err := s.Presence().Flush(t.Context()); err != nil {
		t.Error(err)
	}
}
